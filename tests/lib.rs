//! What the tests share: nothing that ships.
