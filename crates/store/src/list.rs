//! Lists with page, limit, sortBy, search and filters, and writes with compare-and-set: written once, for every kind.

use std::str::FromStr;

use sea_orm::{
    ActiveModelTrait, ColumnTrait, ColumnType, Condition, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel,
    Iterable, Order, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, Select, Value as DbValue,
    sea_query::{Expr, ExprTrait, Func, LikeExpr, SimpleExpr},
};
use serde_json::{Value, json};

use crate::StoreError;

/// A row with a revision.
pub trait Revisioned: sea_orm::ModelTrait + Sized {
    /// Its active model.
    type Active: ActiveModelTrait<Entity = Self::Entity>;
    /// Revision.
    fn revision(&self) -> i64;
    /// Id.
    fn id(&self) -> i64;
    /// A copy to change, at the next revision and stamped now.
    fn edit(&self) -> Self::Active;
    /// Column of the id.
    fn id_column() -> <Self::Entity as EntityTrait>::Column;
    /// Column of the revision.
    fn revision_column() -> <Self::Entity as EntityTrait>::Column;
}

/// Writes `changed` (made by [`Revisioned::edit`]) if the row still is at the revision of `before`. `None`: somebody was faster.
pub async fn cas<M, C>(db: &C, before: &M, changed: M::Active) -> Result<Option<M>, DbErr>
where
    M: Revisioned + sea_orm::FromQueryResult + IntoActiveModel<M::Active>,
    M::Entity: EntityTrait<Model = M, ActiveModel = M::Active>,
    M::Active: ActiveModelTrait<Entity = M::Entity> + Send,
    C: ConnectionTrait,
{
    let mut update = M::Entity::update_many()
        .filter(M::id_column().eq(before.id()))
        .filter(M::revision_column().eq(before.revision()));
    for column in <M::Entity as EntityTrait>::Column::iter() {
        if let sea_orm::ActiveValue::Set(value) = changed.get(column) {
            update = update.col_expr(column, column.save_as(Expr::val(value)));
        }
    }
    if update.exec(db).await?.rows_affected == 0 {
        return Ok(None);
    }
    M::Entity::find().filter(M::id_column().eq(before.id())).one(db).await
}

/// A parsed list request.
#[derive(Clone, Debug)]
pub struct ListQuery {
    /// Counted from 1.
    pub page: u64,
    /// Rows a page.
    pub limit: u64,
    /// Field and order.
    pub sort: Vec<(String, Order)>,
    /// Free text.
    pub search: Option<String>,
    /// Field and condition, in order.
    pub filters: Vec<(String, String)>,
}

/// Rows of one page with the total.
#[derive(Clone, Debug)]
pub struct Page<M> {
    /// Rows.
    pub rows: Vec<M>,
    /// Rows in all.
    pub total: u64,
}

impl ListQuery {
    /// From query pairs. A bad page is 1, a limit above `max` is `max`; both as the field's clients expect.
    pub fn parse(pairs: &[(String, String)], max: u64) -> Result<Self, StoreError> {
        let mut q = Self { page: 1, limit: Ord::min(20, max), sort: Vec::new(), search: None, filters: Vec::new() };
        for (key, value) in pairs {
            match key.as_str() {
                "page" => q.page = value.parse().ok().filter(|p| *p > 0).unwrap_or(1),
                "limit" => q.limit = value.parse::<u64>().ok().filter(|l| *l > 0).map_or(20, |l| Ord::min(l, max)),
                "search" => q.search = Some(value.trim().to_owned()).filter(|s| !s.is_empty()),
                "sortBy" => {
                    let (field, order) = value.split_once(':').unwrap_or((value, "ASC"));
                    let order = match order.to_ascii_uppercase().as_str() {
                        "ASC" => Order::Asc,
                        "DESC" => Order::Desc,
                        other => {
                            return Err(StoreError::Query {
                                field: "sortBy".into(),
                                message: format!("{other:?} is not an order; use ASC or DESC"),
                            });
                        }
                    };
                    q.sort.push((field.to_owned(), order));
                }
                _ => {
                    if let Some(field) = key.strip_prefix("filter.") {
                        q.filters.push((field.to_owned(), value.clone()));
                    }
                }
            }
        }
        Ok(q)
    }

    /// Runs it on a selection. `alias` maps wire names to column names where they differ; `search` names the text columns of free text
    /// (numeric text also matches the id).
    pub async fn run<E, C>(
        &self,
        db: &C,
        select: Select<E>,
        alias: &[(&str, &str)],
        search: &[E::Column],
        id: E::Column,
    ) -> Result<Page<E::Model>, StoreError>
    where
        E: EntityTrait,
        E::Column: FromStr,
        E::Model: Send + Sync,
        C: ConnectionTrait,
    {
        let mut select = select;
        if let Some(text) = &self.search {
            let mut any = Condition::any();
            for column in search {
                any = any.add(contains(*column, text));
            }
            if let Ok(number) = text.parse::<i64>() {
                any = any.add(id.eq(number));
            }
            select = select.filter(any);
        }
        for condition in self.conditions::<E>(alias)? {
            select = select.filter(condition);
        }
        let total = select.clone().count(db).await?;
        for (field, order) in &self.sort {
            select = select.order_by(column::<E>("sortBy", field, alias)?, order.clone());
        }
        let rows = select
            .order_by(id, Order::Asc)
            .offset((self.page - 1).saturating_mul(self.limit))
            .limit(self.limit)
            .all(db)
            .await?;
        Ok(Page { rows, total })
    }

    /// The filters as conditions that all must hold. Repeats of a field join with AND, or with OR where the later one says `$or`.
    fn conditions<E>(&self, alias: &[(&str, &str)]) -> Result<Vec<Condition>, StoreError>
    where
        E: EntityTrait,
        E::Column: FromStr,
    {
        let mut all: Vec<(String, Condition)> = Vec::new();
        for (field, text) in &self.filters {
            let parameter = format!("filter.{field}");
            let column = column::<E>(&parameter, field, alias)?;
            let (or, condition) = condition(&parameter, column, text)?;
            match all.iter_mut().find(|(f, _)| or && f == field) {
                Some((_, before)) => *before = Condition::any().add(before.clone()).add(condition),
                None => all.push((field.clone(), Condition::all().add(condition))),
            }
        }
        Ok(all.into_iter().map(|(_, c)| c).collect())
    }

    /// The body of a list answer: data, meta, links.
    pub fn body(&self, path: &str, total: u64, data: Vec<Value>) -> Value {
        let pages = Ord::max(total.div_ceil(self.limit), 1);
        let link = |page: u64| format!("{path}?page={page}&limit={}", self.limit);
        json!({
            "data": data,
            "meta": {"itemsPerPage": self.limit, "totalItems": total, "currentPage": self.page, "totalPages": pages,
                "sortBy": self.sort.iter().map(|(f, o)| json!([f, if *o == Order::Desc { "DESC" } else { "ASC" }])).collect::<Vec<_>>(),
                "searchBy": [], "search": self.search.clone().unwrap_or_default(), "select": [], "filter": {}},
            "links": {"first": link(1), "previous": if self.page > 1 { link(self.page - 1) } else { String::new() }, "current": link(self.page),
                "next": if self.page < pages { link(self.page + 1) } else { String::new() }, "last": link(pages)},
        })
    }
}

/// `lower(column) like %text%`, the same on both databases.
fn contains<C: ColumnTrait>(column: C, text: &str) -> SimpleExpr {
    let escaped = text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    Expr::expr(Func::lower(Expr::col(column.as_column_ref()))).like(LikeExpr::new(format!("%{escaped}%")).escape('\\'))
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
            out.push(c.to_ascii_lowercase());
        } else {
            out.push(c);
        }
    }
    out
}

fn column<E>(parameter: &str, field: &str, alias: &[(&str, &str)]) -> Result<E::Column, StoreError>
where
    E: EntityTrait,
    E::Column: FromStr,
{
    let name = match field {
        "createdTimestamp" | "createdAt" | "occurredTimestamp" => "created_at".to_owned(),
        "updatedTimestamp" | "updatedAt" => "updated_at".to_owned(),
        _ => alias.iter().find(|(wire, _)| *wire == field).map_or_else(|| snake(field), |(_, c)| (*c).to_owned()),
    };
    // Columns that hold documents or secrets are not offered.
    let offered = |c: &E::Column| {
        let def = c.def();
        !matches!(
            def.get_column_type(),
            ColumnType::Json | ColumnType::JsonBinary | ColumnType::Blob | ColumnType::VarBinary(_)
        ) && !sea_orm::IdenStatic::as_str(c).contains("password")
            && !sea_orm::IdenStatic::as_str(c).contains("secret")
    };
    E::Column::from_str(&name).ok().filter(offered).ok_or_else(|| {
        let known: Vec<String> = E::Column::iter()
            .filter(offered)
            .map(|c| camel(sea_orm::IdenStatic::as_str(&c)))
            .chain(alias.iter().map(|(w, _)| (*w).to_owned()))
            .collect();
        StoreError::Query {
            field: parameter.to_owned(),
            message: format!("{field:?} is not offered here; offered are: {}", known.join(", ")),
        }
    })
}

fn camel(name: &str) -> String {
    let mut up = false;
    name.chars()
        .filter_map(|c| {
            if c == '_' {
                up = true;
                None
            } else if std::mem::take(&mut up) {
                Some(c.to_ascii_uppercase())
            } else {
                Some(c)
            }
        })
        .collect()
}

/// `[$and:|$or:][$not:]$op:value`; a bare value is equality, commas mean "one of".
fn condition<C: ColumnTrait>(parameter: &str, column: C, text: &str) -> Result<(bool, SimpleExpr), StoreError> {
    let mut rest = text;
    let (mut or, mut not) = (false, false);
    loop {
        if let Some(r) = rest.strip_prefix("$and:") {
            rest = r;
        } else if let Some(r) = rest.strip_prefix("$or:") {
            (or, rest) = (true, r);
        } else if let Some(r) = rest.strip_prefix("$not:") {
            (not, rest) = (!not, r);
        } else {
            break;
        }
    }
    let (op, operand) = match rest.strip_prefix('$') {
        Some(r) => r.split_once(':').unwrap_or((r, "")),
        None => ("eq", rest),
    };
    let value = |t: &str| typed(parameter, column, t);
    let many = |t: &str| t.split(',').map(|p| typed(parameter, column, p.trim())).collect::<Result<Vec<_>, _>>();
    let col = || Expr::col(column.as_column_ref());
    let expr = match op {
        "eq" if operand.contains(',') => col().is_in(many(operand)?),
        "eq" => col().eq(value(operand)?),
        "in" => col().is_in(many(operand)?),
        "gt" => col().gt(value(operand)?),
        "gte" => col().gte(value(operand)?),
        "lt" => col().lt(value(operand)?),
        "lte" => col().lte(value(operand)?),
        "btw" => match many(operand)?.as_slice() {
            [a, b] => col().between(a.clone(), b.clone()),
            _ => {
                return Err(StoreError::Query {
                    field: parameter.into(),
                    message: "$btw takes two values: $btw:1,5".into(),
                });
            }
        },
        "null" => col().is_null(),
        "ilike" | "contains" => contains(column, operand),
        "sw" => {
            let escaped = operand.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            Expr::expr(Func::lower(col())).like(LikeExpr::new(format!("{escaped}%")).escape('\\'))
        }
        other => {
            return Err(StoreError::Query {
                field: parameter.into(),
                message: format!(
                    "${other} is not an operator; use $eq, $in, $gt, $gte, $lt, $lte, $btw, $null, $ilike, $sw, with $not or $or before it"
                ),
            });
        }
    };
    Ok((or, if not { expr.not() } else { expr }))
}

/// The operand in the column's type, so that a bad one is refused instead of matching nothing.
fn typed<C: ColumnTrait>(parameter: &str, column: C, text: &str) -> Result<DbValue, StoreError> {
    let bad =
        |want: &str| StoreError::Query { field: parameter.to_owned(), message: format!("{text:?} is not {want}") };
    Ok(match column.def().get_column_type() {
        ColumnType::BigInteger | ColumnType::Integer | ColumnType::SmallInteger => {
            let number = text
                .parse::<i64>()
                .ok()
                .or_else(|| text.parse::<f64>().ok().filter(|f| f.fract() == 0.0).map(|f| f as i64));
            number.ok_or_else(|| bad("a whole number"))?.into()
        }
        ColumnType::Boolean => match text {
            "true" | "1" => true.into(),
            "false" | "0" => false.into(),
            _ => return Err(bad("true or false")),
        },
        _ => text.to_owned().into(),
    })
}

#[cfg(test)]
mod tests {
    use sea_orm::{ActiveModelTrait, ActiveValue::Set};

    use super::*;
    use crate::{Database, entity::subnet, migration};

    async fn database() -> Database {
        let db = Database::open("sqlite::memory:").await.unwrap();
        db.migrate("global", migration::GLOBAL).await.unwrap();
        db.migrate("global", migration::GLOBAL).await.unwrap();
        for (label, length, pool) in [("Blue", 24, false), ("green_1", 16, true), ("red", 24, false)] {
            let mut row = subnet::new();
            row.label = Set(label.into());
            row.name = Set(label.into());
            row.ip_version = Set("ipv4".into());
            row.network_address = Set("10.0.0.0".into());
            row.prefix_length = Set(length);
            row.is_pool = Set(pool);
            for column in [&mut row.annotations, &mut row.tags, &mut row.denylist, &mut row.overlap_rules] {
                *column = Set(json!({}));
            }
            row.insert(&db.write).await.unwrap();
        }
        db
    }

    async fn labels(db: &Database, pairs: &[(&str, &str)]) -> Result<Vec<String>, StoreError> {
        let pairs: Vec<(String, String)> = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let q = ListQuery::parse(&pairs, 100)?;
        let page = q
            .run(&db.read, subnet::Entity::find(), &[("pool", "is_pool")], &[subnet::Column::Label], subnet::Column::Id)
            .await?;
        Ok(page.rows.into_iter().map(|r| r.label).collect())
    }

    #[tokio::test]
    async fn the_grammar() {
        let db = database().await;
        assert_eq!(
            labels(&db, &[("filter.prefixLength", "24"), ("sortBy", "label:DESC")]).await.unwrap(),
            ["red", "Blue"]
        );
        assert_eq!(
            labels(&db, &[("filter.label", "$not:$eq:red"), ("filter.pool", "true")]).await.unwrap(),
            ["green_1"]
        );
        assert_eq!(
            labels(&db, &[("filter.label", "red"), ("filter.label", "$or:$eq:Blue")]).await.unwrap(),
            ["Blue", "red"]
        );
        assert_eq!(labels(&db, &[("filter.parentId", "$not:$null")]).await.unwrap(), Vec::<String>::new());
        assert_eq!(labels(&db, &[("search", "BLU")]).await.unwrap(), ["Blue"]);
        assert_eq!(labels(&db, &[("search", "3")]).await.unwrap(), ["red"]);
        assert_eq!(labels(&db, &[("search", "%")]).await.unwrap(), Vec::<String>::new());
        assert_eq!(labels(&db, &[("limit", "2"), ("page", "2")]).await.unwrap(), ["red"]);
        assert!(labels(&db, &[("filter.nonsense", "1")]).await.unwrap_err().to_string().contains("prefixLength"));
        assert!(labels(&db, &[("filter.prefixLength", "abc")]).await.is_err());
        assert!(labels(&db, &[("filter.annotations", "x")]).await.is_err());
    }

    #[tokio::test]
    async fn compare_and_set() {
        let db = database().await;
        let row = subnet::Entity::find_by_id(1).one(&db.read).await.unwrap().unwrap();
        let mut changed = row.edit();
        changed.label = Set("cyan".into());
        let after = cas(&db.write, &row, changed.clone()).await.unwrap().unwrap();
        assert_eq!((after.revision, after.label.as_str()), (2, "cyan"));
        assert!(cas(&db.write, &row, changed).await.unwrap().is_none());
    }
}
