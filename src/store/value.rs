//! What a statement takes: values with their types.

/// A value with its type, which PostgreSQL wants to know of NULLs, too.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Integer(Option<i64>),
    Real(Option<f64>),
    Text(Option<String>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Integer(Some(value))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Value {
        Value::Integer(value)
    }
}

/// What is not a number is kept as NULL, as SQLite does.
impl From<Option<f64>> for Value {
    fn from(value: Option<f64>) -> Value {
        Value::Real(value.filter(|value| !value.is_nan()))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Value {
        Some(value).into()
    }
}

impl From<String> for Value {
    fn from(value: String) -> Value {
        Value::Text(Some(value))
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Value {
        value.clone().into()
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Value {
        value.to_owned().into()
    }
}

impl From<Option<&str>> for Value {
    fn from(value: Option<&str>) -> Value {
        Value::Text(value.map(str::to_owned))
    }
}

impl From<Option<&String>> for Value {
    fn from(value: Option<&String>) -> Value {
        Value::Text(value.cloned())
    }
}

impl From<&Option<String>> for Value {
    fn from(value: &Option<String>) -> Value {
        Value::Text(value.clone())
    }
}
