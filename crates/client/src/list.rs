//! Lists: one page, or all of them.

use serde_json::Value;

use crate::{Client, Error};

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// `field`, `$op:value` pairs.
    pub filters: Vec<(String, String)>,
    /// `field:ASC` or `field:DESC`.
    pub sort: Vec<String>,
    /// Free text.
    pub search: Option<String>,
    /// Most rows wanted in all.
    pub limit: Option<usize>,
}

/// One page.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// Rows.
    pub items: Vec<Value>,
    /// Rows in all.
    pub total: usize,
    /// Pages in all.
    pub pages: usize,
}

impl Client {
    /// One page of up to 100 rows, counted from 1.
    pub async fn page(&self, path: &str, options: &ListOptions, page: usize) -> Result<Page, Error> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("page", &page.to_string());
        query.append_pair("limit", &options.limit.map_or(100, |l| l.clamp(1, 100)).to_string());
        for (field, value) in &options.filters {
            query.append_pair(&format!("filter.{field}"), value);
        }
        for sort in &options.sort {
            query.append_pair("sortBy", sort);
        }
        if let Some(search) = &options.search {
            query.append_pair("search", search);
        }
        let separator = if path.contains('?') { '&' } else { '?' };
        let mut answer = self.get(&format!("{path}{separator}{}", query.finish())).await?;
        if let Value::Array(items) = answer {
            return Ok(Page { total: items.len(), pages: 1, items });
        }
        let meta = |name: &str| answer.pointer(&format!("/meta/{name}")).and_then(Value::as_u64).unwrap_or(0) as usize;
        let (total, pages) = (meta("totalItems"), meta("totalPages"));
        let items = items(&mut answer)
            .ok_or_else(|| Error::Odd { url: path.to_owned(), cause: "no data array in a list".into() })?;
        Ok(Page { items, total, pages })
    }

    /// All rows, page after page, up to `options.limit`.
    pub async fn list(&self, path: &str, options: &ListOptions) -> Result<Vec<Value>, Error> {
        let mut all = Vec::new();
        let mut page = 1;
        loop {
            let answer = self.page(path, options, page).await?;
            let empty = answer.items.is_empty();
            all.extend(answer.items);
            if empty || page >= answer.pages || options.limit.is_some_and(|l| all.len() >= l) {
                all.truncate(options.limit.unwrap_or(usize::MAX));
                return Ok(all);
            }
            page += 1;
        }
    }
}

/// The rows of a list's body: its `data`, or, in kinds that name them otherwise (`roles`, `permissions`), its one array of objects.
fn items(body: &mut Value) -> Option<Vec<Value>> {
    let map = body.as_object_mut()?;
    let key = if map.contains_key("data") {
        "data".to_owned()
    } else {
        map.iter().find(|(k, v)| v.is_array() && *k != "links").map(|(k, _)| k.clone())?
    };
    match map.remove(&key) {
        Some(Value::Array(items)) => Some(items),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::items;

    #[test]
    fn rows_are_found_under_other_names() {
        assert_eq!(items(&mut json!({"data": [1], "meta": {}})), Some(vec![json!(1)]));
        assert_eq!(items(&mut json!({"links": [], "roles": [2]})), Some(vec![json!(2)]));
        assert_eq!(items(&mut json!({"data": 3})), None);
        assert_eq!(items(&mut json!({"id": 3})), None);
    }
}
