//! From values in layers to a type, by way of serde; what does not fit is told with who says it.

use super::layers::{Content, Node, wrong};
use super::{ConfigError, Origin};
use crate::plan::words::{listed, nearest, quoted};
use serde::de::value::StrDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer as _, Visitor};
use std::fmt::{self, Display};

/// Reads a type from the outermost value.
pub(super) fn read<T: DeserializeOwned>(root: &Node) -> Result<T, ConfigError> {
    T::deserialize(Reader(root)).map_err(|misfit| {
        let origin = misfit.origin.unwrap_or_else(|| root.origin.clone());
        let key = misfit.path.join(".");
        let message = match (key.is_empty(), misfit.names_key) {
            (true, _) | (_, true) => misfit.message,
            (false, false) => format!("{}: {}", quoted(&key), misfit.message),
        };
        wrong(&origin, message, misfit.help)
    })
}

/// What does not fit, and where.
#[derive(Debug)]
struct Misfit {
    message: String,
    help: Option<String>,
    origin: Option<Origin>,
    /// The message is about a key, which it names.
    names_key: bool,
    /// From the outermost key to the one that holds it.
    path: Vec<String>,
}

impl Misfit {
    fn new(message: impl Into<String>, help: Option<String>) -> Self {
        Self { message: message.into(), help, origin: None, names_key: false, path: Vec::new() }
    }

    fn at(mut self, origin: &Origin) -> Self {
        self.origin.get_or_insert_with(|| origin.clone());
        self
    }

    fn under(mut self, key: &str) -> Self {
        self.path.insert(0, key.to_owned());
        self
    }
}

impl Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Misfit {}

impl de::Error for Misfit {
    fn custom<M: Display>(message: M) -> Self {
        Self::new(message.to_string(), None)
    }

    fn invalid_type(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        let found = match unexpected {
            de::Unexpected::Seq => "a list".to_owned(),
            de::Unexpected::Map => "a mapping".to_owned(),
            de::Unexpected::Unit | de::Unexpected::Option => "nothing".to_owned(),
            de::Unexpected::Str(text) => quoted(text),
            other => other.to_string(),
        };
        Self::new(format!("{found} stands where {expected} belongs"), None)
    }

    fn invalid_value(unexpected: de::Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let help = match nearest(field, expected.iter().copied()) {
            Some(near) => format!("did you mean {}?", quoted(near)),
            None => format!("the keys here are {}", listed(expected.iter().copied(), "and")),
        };
        Self { names_key: true, ..Self::new(format!("unknown key {}", quoted(field)), Some(help)) }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let help = format!("write {}", listed(expected.iter().copied(), "or"));
        Self::new(format!("{} is not known", quoted(variant)), Some(help))
    }
}

/// One value.
#[derive(Clone, Copy)]
struct Reader<'n>(&'n Node);

impl Reader<'_> {
    /// What stands here cannot be what is expected.
    fn misfit(self, expected: &dyn de::Expected) -> Misfit {
        let unexpected = match &self.0.content {
            Content::Null => de::Unexpected::Unit,
            Content::Scalar(text) => de::Unexpected::Str(text),
            Content::List(_) => de::Unexpected::Seq,
            Content::Map(_) => de::Unexpected::Map,
        };
        de::Error::invalid_type(unexpected, expected)
    }
}

macro_rules! numbers {
    ($($method:ident => $visit:ident: $type:ty,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
            match &self.0.content {
                Content::Scalar(text) => match text.parse::<$type>() {
                    Ok(number) => visitor.$visit(number),
                    Err(_) => Err(self.misfit(&Number(stringify!($type)))),
                },
                _ => Err(self.misfit(&visitor)),
            }
            .map_err(|misfit| misfit.at(&self.0.origin))
        })*
    };
}

/// What a number of a type is, for people.
struct Number(&'static str);

impl de::Expected for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "f32" | "f64" => f.write_str("a number"),
            "u8" => f.write_str("a whole number from 0 to 255"),
            "u16" => f.write_str("a whole number from 0 to 65535"),
            unsigned if unsigned.starts_with('u') => f.write_str("a whole number from 0"),
            _ => f.write_str("a whole number"),
        }
    }
}

impl<'de> de::Deserializer<'de> for Reader<'_> {
    type Error = Misfit;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.content {
            Content::Null => visitor.visit_unit().map_err(|misfit: Misfit| misfit.at(&self.0.origin)),
            Content::Scalar(_) => self.deserialize_str(visitor),
            Content::List(_) => self.deserialize_seq(visitor),
            Content::Map(_) => self.deserialize_map(visitor),
        }
    }

    numbers! {
        deserialize_u8 => visit_u8: u8,
        deserialize_u16 => visit_u16: u16,
        deserialize_u32 => visit_u32: u32,
        deserialize_u64 => visit_u64: u64,
        deserialize_i8 => visit_i8: i8,
        deserialize_i16 => visit_i16: i16,
        deserialize_i32 => visit_i32: i32,
        deserialize_i64 => visit_i64: i64,
        deserialize_f32 => visit_f32: f32,
        deserialize_f64 => visit_f64: f64,
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        let value = match &self.0.content {
            Content::Scalar(text) if text == "true" => Ok(true),
            Content::Scalar(text) if text == "false" => Ok(false),
            _ => Err(self.misfit(&"`true` or `false`")),
        };
        value.and_then(|value| visitor.visit_bool(value)).map_err(|misfit| misfit.at(&self.0.origin))
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.content {
            Content::Scalar(text) => visitor.visit_str(text),
            _ => Err(self.misfit(&visitor)),
        }
        .map_err(|misfit| misfit.at(&self.0.origin))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.content {
            Content::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.content {
            Content::List(items) => visitor.visit_seq(Items(items.iter())),
            Content::Null => visitor.visit_seq(Items([].iter())),
            _ => Err(self.misfit(&visitor)),
        }
        .map_err(|misfit| misfit.at(&self.0.origin))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        match &self.0.content {
            Content::Map(entries) => visitor.visit_map(Entries { entries: entries.iter(), value: None }),
            // `tls:` with nothing after it says nothing.
            Content::Null => visitor.visit_map(Entries { entries: [].iter(), value: None }),
            _ => Err(self.misfit(&"a mapping of keys")),
        }
        .map_err(|misfit| misfit.at(&self.0.origin))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        self.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Misfit> {
        match &self.0.content {
            Content::Scalar(text) => {
                let word: StrDeserializer<'_, Misfit> = text.as_str().into_deserializer();
                visitor.visit_enum(word)
            }
            _ => Err(self.misfit(&listed(variants.iter().copied(), "or").as_str())),
        }
        .map_err(|misfit| misfit.at(&self.0.origin))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Misfit> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

/// What a list holds.
struct Items<'n>(std::slice::Iter<'n, Node>);

impl<'de> de::SeqAccess<'de> for Items<'_> {
    type Error = Misfit;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Misfit> {
        self.0.next().map(|node| seed.deserialize(Reader(node))).transpose()
    }
}

/// What a mapping holds.
struct Entries<'n> {
    entries: std::slice::Iter<'n, (String, Origin, Node)>,
    value: Option<(&'n str, &'n Node)>,
}

impl<'de> de::MapAccess<'de> for Entries<'_> {
    type Error = Misfit;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Misfit> {
        let Some((name, origin, node)) = self.entries.next() else { return Ok(None) };
        self.value = Some((name, node));
        let word: StrDeserializer<'_, Misfit> = name.as_str().into_deserializer();
        seed.deserialize(word).map(Some).map_err(|misfit| misfit.at(origin))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Misfit> {
        let Some((name, node)) = self.value.take() else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(Reader(node)).map_err(|misfit| misfit.at(&node.origin).under(name))
    }
}
