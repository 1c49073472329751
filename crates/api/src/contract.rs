//! The interface as data: which operations there are, what guards them, and what their bodies look like.
//!
//! One table serves four uses, so they cannot disagree: routing, permissions, validation of requests (with errors that
//! name the field), completion of answers (a required key is always there) and the `OpenAPI` description.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
};

use model::validate::FieldError;
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// One operation of the interface.
#[derive(Debug, Clone)]
pub struct Operation {
    /// Operation id, `getServers`.
    pub id: &'static str,
    /// Tag, `Server`.
    pub tag: &'static str,
    /// HTTP method in upper case.
    pub method: &'static str,
    /// Path with `{parameters}`.
    pub path: &'static str,
    /// Who may call it.
    pub permission: Permission,
    /// Whether `If-Match` must be there.
    pub if_match_required: bool,
    /// Schema of the request body.
    pub request: Option<&'static str>,
    /// Status of success.
    pub status: u16,
    /// Schema of the answer.
    pub response: Option<&'static str>,
}

/// What a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Nothing.
    Public,
    /// Any valid session or API key.
    SignedIn,
    /// A permission of the caller's role.
    Need(&'static str),
}

/// A type description.
#[derive(Debug, Deserialize)]
struct Schema {
    #[serde(rename = "schema")]
    name: String,
    #[serde(default)]
    fields: Option<BTreeMap<String, Field>>,
    #[serde(default, rename = "enum")]
    words: Option<Vec<Value>>,
    #[serde(default, rename = "type")]
    kind: Option<String>,
    #[serde(default, rename = "oneOf")]
    one_of: Vec<String>,
    #[serde(default, rename = "anyOf")]
    any_of: Vec<String>,
    #[serde(default, rename = "allOf")]
    all_of: Vec<String>,
    #[serde(default)]
    discriminator: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Field {
    t: String,
    #[serde(default)]
    req: Option<Value>,
    #[serde(default)]
    null: Option<Value>,
    #[serde(default)]
    e: Option<Vec<Value>>,
    #[serde(default)]
    f: Option<String>,
}

fn truthy(v: Option<&Value>) -> bool {
    v.is_some_and(|v| v.as_bool().unwrap_or(v.as_i64() != Some(0)))
}

static SCHEMAS: LazyLock<HashMap<String, Schema>> = LazyLock::new(|| {
    [include_str!("../contract/schemas.jsonl"), include_str!("../contract/own_schemas.jsonl")]
        .iter()
        .flat_map(|text| text.lines())
        .filter_map(|line| serde_json::from_str::<Schema>(line).ok())
        .map(|s| (s.name.clone(), s))
        .collect()
});

static OPERATIONS: LazyLock<HashMap<&'static str, Operation>> = LazyLock::new(|| {
    [include_str!("../contract/operations.tsv"), include_str!("../contract/own_operations.tsv")]
        .iter()
        .flat_map(|text| text.lines())
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| {
            let c: Vec<&'static str> = line.split('\t').collect();
            let [id, tag, method, path, permission, if_match, request, status, response] = c[..] else { return None };
            let some = |s: &'static str| (s != "-").then_some(s);
            Some(Operation {
                id,
                tag,
                method,
                path,
                permission: match permission {
                    "public" => Permission::Public,
                    "signed_in" => Permission::SignedIn,
                    other => Permission::Need(other),
                },
                if_match_required: if_match == "required",
                request: some(request),
                status: status.parse().unwrap_or(200),
                response: some(response),
            })
        })
        .map(|o| (o.id, o))
        .collect()
});

/// The operation of that id.
pub fn operation(id: &str) -> Option<&'static Operation> {
    OPERATIONS.get(id)
}

/// Every permission that guards an operation, sorted.
pub fn permissions() -> Vec<&'static str> {
    let mut all: Vec<_> = OPERATIONS
        .values()
        .filter_map(|o| if let Permission::Need(p) = o.permission { Some(p) } else { None })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The operations that a permission guards, sorted by id.
pub fn guarded_by(permission: &str) -> Vec<&'static Operation> {
    let mut all: Vec<_> =
        OPERATIONS.values().filter(|o| matches!(o.permission, Permission::Need(p) if p == permission)).collect();
    all.sort_by_key(|o| o.id);
    all
}

fn word_of(v: &Value) -> &'static str {
    match v {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Checks a request body against its schema: required fields, types, words, and no unknown field (it would be lost silently).
pub fn validate(schema: &str, body: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    check(schema, body, "", true, &mut out);
    out
}

/// Holds an answer against its schema: required keys, types, words. What is more than the schema names is fine.
pub fn check_answer(schema: &str, body: &Value) -> Vec<FieldError> {
    let mut out = Vec::new();
    check(schema, body, "", false, &mut out);
    out
}

fn join(path: &str, field: &str) -> String {
    if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") }
}

/// A number, or (where clients send one) a string that is a number.
fn is_number(v: &Value) -> bool {
    v.is_number() || v.as_str().is_some_and(|s| s.parse::<f64>().is_ok_and(f64::is_finite))
}

fn check(ty: &str, v: &Value, path: &str, strict: bool, out: &mut Vec<FieldError>) {
    let here = if path.is_empty() { "body" } else { path };
    let mut wrong = |want: &str| out.push(FieldError::new(here, format!("must be {want}, but is {}", word_of(v))));
    if let Some(inner) = ty.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let Some(items) = v.as_array() else { return wrong("an array") };
        for (i, item) in items.iter().enumerate() {
            check(inner, item, &format!("{path}[{i}]"), strict, out);
        }
        return;
    }
    if ty.contains(" | ") {
        let tries: Vec<Vec<FieldError>> = ty
            .split(" | ")
            .map(|t| {
                let mut o = Vec::new();
                check(t, v, path, strict, &mut o);
                o
            })
            .collect();
        if !tries.iter().any(Vec::is_empty) {
            out.extend(tries.into_iter().min_by_key(Vec::len).unwrap_or_default());
        }
        return;
    }
    match ty {
        "string" if v.is_string() => return,
        "string" => return wrong("a string"),
        "boolean" => {
            let as_number = v.as_i64().is_some_and(|n| n == 0 || n == 1);
            if !v.is_boolean() && !as_number {
                wrong("true or false");
            }
            return;
        }
        "integer" => {
            let whole = v.as_i64().is_some()
                || v.as_f64().is_some_and(|f| f.fract() == 0.0)
                || v.as_str().is_some_and(|s| s.parse::<i64>().is_ok());
            if !whole {
                wrong("a whole number");
            }
            return;
        }
        "number" if is_number(v) || v.is_boolean() => return,
        "number" => return wrong("a number"),
        "object" if v.is_object() => return,
        "object" => return wrong("an object"),
        "array" if v.is_array() => return,
        "array" => return wrong("an array"),
        _ => {}
    }
    let Some(schema) = SCHEMAS.get(ty) else { return };
    if let Some(words) = &schema.words {
        if !words.contains(v) {
            let list = words
                .iter()
                .map(|w| w.as_str().map_or_else(|| w.to_string(), str::to_owned))
                .collect::<Vec<_>>()
                .join(", ");
            out.push(FieldError::new(here, format!("{v} is not one of: {list}")));
        }
        return;
    }
    let alternatives: Vec<&String> = schema.one_of.iter().chain(&schema.any_of).collect();
    if !alternatives.is_empty() {
        let chosen = schema.discriminator.as_ref().and_then(|d| v.get(d)).and_then(Value::as_str);
        let tries: Vec<(usize, Vec<FieldError>)> = alternatives
            .iter()
            .map(|t| {
                let mut o = Vec::new();
                check(t, v, path, strict, &mut o);
                let named = chosen.is_some_and(|c| t.to_lowercase().starts_with(&c.to_lowercase()));
                (usize::from(!named), o)
            })
            .collect();
        if !tries.iter().any(|(_, o)| o.is_empty()) {
            out.extend(tries.into_iter().min_by_key(|(n, o)| (*n, o.len())).map(|(_, o)| o).unwrap_or_default());
        }
        return;
    }
    let fields = all_fields(ty);
    if fields.is_empty() {
        if let Some(kind) = schema.kind.as_deref() {
            check(kind, v, path, strict, out);
        }
        return;
    }
    let Some(map) = v.as_object() else { return wrong("an object") };
    for (name, field) in &fields {
        match map.get(*name) {
            None => {
                if truthy(field.req.as_ref()) {
                    out.push(FieldError::new(join(path, name), "is required"));
                }
            }
            Some(Value::Null) => {}
            Some(value) => {
                let before = out.len();
                check(&field.t, value, &join(path, name), strict, out);
                if let (Some(words), true) = (&field.e, out.len() == before)
                    && !value.is_array()
                    && !words.contains(value)
                {
                    let list = words
                        .iter()
                        .map(|w| w.as_str().map_or_else(|| w.to_string(), str::to_owned))
                        .collect::<Vec<_>>()
                        .join(", ");
                    out.push(FieldError::new(join(path, name), format!("{value} is not one of: {list}")));
                }
            }
        }
    }
    if strict {
        for name in map.keys().filter(|k| !fields.iter().any(|(n, _)| n == k)) {
            let near = fields.iter().map(|(n, _)| *n).find(|n| n.eq_ignore_ascii_case(name));
            let hint = near.map_or_else(String::new, |n| format!("; did you mean {n:?}?"));
            out.push(FieldError::new(join(path, name), format!("is not a field of {ty}{hint}")));
        }
    }
}

fn all_fields(ty: &str) -> Vec<(&'static str, &'static Field)> {
    let Some(schema) = SCHEMAS.get(ty) else { return Vec::new() };
    let mut fields: Vec<(&'static str, &'static Field)> =
        schema.fields.iter().flatten().map(|(n, f)| (n.as_str(), f)).collect();
    for base in &schema.all_of {
        fields.extend(all_fields(base));
    }
    fields
}

/// Adds what a schema requires and the answer lacks: `null`, or the first word of an enumeration, at every depth. Clients refuse an
/// answer whose required key is absent.
pub fn complete(ty: &str, v: &mut Value) {
    if let Some(inner) = ty.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        if let Some(items) = v.as_array_mut() {
            for item in items {
                complete(inner, item);
            }
        }
        return;
    }
    let Some(map) = v.as_object_mut() else { return };
    for (name, field) in all_fields(ty) {
        match map.get_mut(name) {
            Some(Value::Null) | None => {
                if truthy(field.req.as_ref()) {
                    let words = SCHEMAS.get(&field.t).and_then(|s| s.words.as_ref());
                    let fallback = words.and_then(|w| w.first().cloned());
                    let value = match (fallback, field.t.as_str()) {
                        (Some(word), _) => word,
                        (None, t) if t.starts_with('[') => Value::Array(Vec::new()),
                        _ => Value::Null,
                    };
                    map.insert(name.to_owned(), value);
                }
            }
            Some(inner) => complete(&field.t, inner),
        }
    }
}

/// The `OpenAPI` 3.1 document of these operations.
pub fn openapi(operations: &[&'static Operation]) -> Value {
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    let mut wanted: Vec<String> = Vec::new();
    for o in operations {
        let parameters: Vec<Value> =
            o.path
                .split('/')
                .filter_map(|p| p.strip_prefix('{').and_then(|p| p.strip_suffix('}')))
                .map(|p| json!({"name": p, "in": "path", "required": true, "schema": {"type": "string"}}))
                .chain((o.if_match_required).then(
                    || json!({"name": "If-Match", "in": "header", "required": true, "schema": {"type": "string"}}),
                ))
                .collect();
        let mut answer = json!({"description": "Success"});
        if let Some(r) = o.response {
            wanted.push(r.to_owned());
            answer["content"] = json!({"application/json": {"schema": type_schema(r)}});
        }
        let mut item = json!({
            "operationId": o.id, "tags": [o.tag], "parameters": parameters,
            "responses": {o.status.to_string(): answer, "default": {"$ref": "#/components/responses/Error"}},
        });
        item["x-permission"] = match o.permission {
            Permission::Public => json!("public"),
            Permission::SignedIn => json!("signed_in"),
            Permission::Need(p) => json!(p),
        };
        if o.permission == Permission::Public {
            item["security"] = json!([]);
        }
        if let Some(r) = o.request {
            wanted.push(r.to_owned());
            item["requestBody"] =
                json!({"required": true, "content": {"application/json": {"schema": type_schema(r)}}});
        }
        paths.entry(o.path).or_default().insert(o.method.to_lowercase(), item);
    }
    let mut components = BTreeMap::new();
    while let Some(ty) = wanted.pop() {
        for name in names_in(&ty) {
            if components.contains_key(&name) || !SCHEMAS.contains_key(&name) {
                continue;
            }
            let (schema, refs) = component(&name);
            components.insert(name, schema);
            wanted.extend(refs);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "Steelyard", "version": "2", "description": "REST interface of the Global Controller.", "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}},
        "security": [{"bearer": []}, {"session": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}, "session": {"type": "apiKey", "in": "cookie", "name": "steelyard_session"}},
            "responses": {"Error": {"description": "Error", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}},
            "schemas": Value::Object(components.into_iter().chain([("Error".to_owned(), json!({
                "type": "object", "required": ["statusCode", "message", "error"],
                "properties": {"statusCode": {"type": "integer"}, "message": {"type": "string"}, "error": {"type": "string"}, "requestId": {"type": "string"},
                    "details": {"type": "array", "items": {"type": "object", "properties": {"field": {"type": "string"}, "message": {"type": "string"}}}}}
            }))]).collect()),
        },
    })
}

fn names_in(ty: &str) -> Vec<String> {
    ty.split([' ', '|', '&', '[', ']']).filter(|s| !s.is_empty()).map(str::to_owned).collect()
}

fn type_schema(ty: &str) -> Value {
    if let Some(inner) = ty.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        return json!({"type": "array", "items": type_schema(inner)});
    }
    if ty.contains(" | ") {
        return json!({"anyOf": ty.split(" | ").map(type_schema).collect::<Vec<_>>()});
    }
    if ty.contains(" & ") {
        return json!({"allOf": ty.split(" & ").map(type_schema).collect::<Vec<_>>()});
    }
    match ty {
        "string" | "boolean" | "integer" | "number" => json!({"type": ty}),
        "object" => json!({"type": "object", "additionalProperties": true}),
        "array" => json!({"type": "array", "items": {}}),
        _ if SCHEMAS.contains_key(ty) => json!({"$ref": format!("#/components/schemas/{ty}")}),
        _ => json!({}),
    }
}

fn component(name: &str) -> (Value, Vec<String>) {
    let Some(s) = SCHEMAS.get(name) else { return (json!({}), Vec::new()) };
    if let Some(words) = &s.words {
        return (json!({"type": s.kind.as_deref().unwrap_or("string"), "enum": words}), Vec::new());
    }
    let parts: Vec<String> = s.one_of.iter().chain(&s.any_of).cloned().collect();
    if !parts.is_empty() {
        return (json!({"anyOf": parts.iter().map(|p| type_schema(p)).collect::<Vec<_>>()}), parts);
    }
    let fields = all_fields(name);
    if fields.is_empty() {
        return (s.kind.as_deref().map_or_else(|| json!({}), type_schema), Vec::new());
    }
    let mut properties = Map::new();
    let mut refs = Vec::new();
    for (field_name, f) in &fields {
        let mut t = type_schema(&f.t);
        if let Some(words) = &f.e
            && t.get("type").is_some_and(|t| t != "array")
        {
            t["enum"] = json!(words);
        }
        if let (Some(format), Some(o)) = (&f.f, t.as_object_mut()) {
            o.insert("format".into(), json!(format));
        }
        // A required key may be null where nothing is known.
        let nullable = truthy(f.null.as_ref()) || truthy(f.req.as_ref()) && f.e.is_none() && !f.t.starts_with('[');
        if nullable {
            t = json!({"anyOf": [t, {"type": "null"}]});
        }
        properties.insert((*field_name).to_owned(), t);
        refs.push(f.t.clone());
    }
    let required: Vec<&str> = fields.iter().filter(|(_, f)| truthy(f.req.as_ref())).map(|(n, _)| *n).collect();
    (json!({"type": "object", "properties": properties, "required": required}), refs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_checked_by_field() {
        let errors = validate("CreateSubnet", &json!({"prefixLength": "x", "labl": 1}));
        let fields: Vec<_> = errors.iter().map(|e| e.field.as_str()).collect();
        assert!(
            fields.contains(&"prefixLength") && fields.contains(&"labl") && fields.contains(&"networkAddress"),
            "{fields:?}"
        );
    }

    #[test]
    fn answers_are_completed() {
        let mut v = json!({"id": 1});
        complete("LogicalNetwork", &mut v);
        assert!(v.get("lastAppliedLogicalNetworkProfileId").is_some_and(Value::is_null));
        assert_eq!(v["kind"], "vlan");
    }
}
