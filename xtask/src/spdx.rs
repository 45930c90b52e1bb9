//! Licence expressions as manifests hold them: identifiers, `AND`, `OR`, `WITH`, parentheses, and
//! the `/` that old manifests write for `OR`.

/// A licence expression.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Expression {
    /// One licence, with an exception where one is granted.
    Licence {
        /// The SPDX identifier; a trailing `+` ("or later") is dropped.
        id: String,
        /// The SPDX identifier of the exception.
        exception: Option<String>,
    },
    /// Both hold.
    And(Box<Expression>, Box<Expression>),
    /// The choice is ours.
    Or(Box<Expression>, Box<Expression>),
}

impl Expression {
    /// Reads an expression; `AND` binds more than `OR`, as SPDX says.
    ///
    /// # Errors
    /// A sentence that says what does not fit.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: tokens(text), position: 0 };
        let expression = parser.alternatives()?;
        match parser.peek() {
            None => Ok(expression),
            Some(rest) => Err(format!("unexpected `{rest}` in `{text}`")),
        }
    }

    /// Whether it can be satisfied with licences that `allowed(id, exception)` accepts.
    pub(crate) fn satisfied(&self, allowed: &impl Fn(&str, Option<&str>) -> bool) -> bool {
        match self {
            Self::Licence { id, exception } => allowed(id, exception.as_deref()),
            Self::And(a, b) => a.satisfied(allowed) && b.satisfied(allowed),
            Self::Or(a, b) => a.satisfied(allowed) || b.satisfied(allowed),
        }
    }
}

fn tokens(text: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '(' | ')' => spaced.extend([' ', c, ' ']),
            '/' => spaced.push_str(" OR "),
            _ => spaced.push(c),
        }
    }
    spaced.split_whitespace().map(str::to_owned).collect()
}

struct Parser {
    tokens: Vec<String>,
    position: usize,
}

impl Parser {
    fn peek(&self) -> Option<&str> {
        self.tokens.get(self.position).map(String::as_str)
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.peek().is_some_and(|token| token.eq_ignore_ascii_case(word));
        self.position += usize::from(found);
        found
    }

    fn alternatives(&mut self) -> Result<Expression, String> {
        let mut left = self.conjunction()?;
        while self.eat("OR") {
            left = Expression::Or(Box::new(left), Box::new(self.conjunction()?));
        }
        Ok(left)
    }

    fn conjunction(&mut self) -> Result<Expression, String> {
        let mut left = self.operand()?;
        while self.eat("AND") {
            left = Expression::And(Box::new(left), Box::new(self.operand()?));
        }
        Ok(left)
    }

    fn operand(&mut self) -> Result<Expression, String> {
        if self.eat("(") {
            let inner = self.alternatives()?;
            return if self.eat(")") { Ok(inner) } else { Err("a `)` is missing".to_owned()) };
        }
        let id = self.identifier()?.trim_end_matches('+').to_owned();
        let exception = if self.eat("WITH") { Some(self.identifier()?) } else { None };
        Ok(Expression::Licence { id, exception })
    }

    fn identifier(&mut self) -> Result<String, String> {
        let token = self.peek().ok_or("the expression ends too early")?.to_owned();
        let word = |word: &str| token.eq_ignore_ascii_case(word);
        let plain = |c: char| c.is_ascii_alphanumeric() || "-.+:".contains(c);
        if ["AND", "OR", "WITH"].iter().any(|operator| word(operator)) || !token.chars().all(plain)
        {
            return Err(format!("`{token}` stands where a licence should"));
        }
        self.position += 1;
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the expression can be had with only these licences, none of them with exceptions.
    fn with(text: &str, licences: &[&str]) -> bool {
        let allowed =
            |id: &str, exception: Option<&str>| exception.is_none() && licences.contains(&id);
        Expression::parse(text).unwrap().satisfied(&allowed)
    }

    #[test]
    fn a_choice_needs_one_and_a_conjunction_both() {
        assert!(with("MIT OR GPL-3.0", &["MIT"]));
        assert!(with("GPL-3.0/MIT", &["MIT"]));
        assert!(!with("GPL-3.0 OR LGPL-2.1", &["MIT"]));
        assert!(!with("MIT AND GPL-3.0", &["MIT"]));
        assert!(with("MIT AND ISC", &["MIT", "ISC"]));
    }

    #[test]
    fn and_binds_more_than_or_and_parentheses_more_than_both() {
        assert!(with("MIT OR Apache-2.0 AND GPL-3.0", &["MIT"]));
        assert!(!with("(MIT OR Apache-2.0) AND GPL-3.0", &["MIT"]));
        assert!(with("(MIT OR Apache-2.0) AND Unicode-3.0", &["MIT", "Unicode-3.0"]));
        assert!(with("((MIT))", &["MIT"]));
    }

    #[test]
    fn an_exception_is_part_of_its_licence() {
        let parsed = Expression::parse("Apache-2.0 WITH LLVM-exception OR MIT").unwrap();
        let Expression::Or(left, right) = parsed else { panic!("no choice") };
        let exception = Some("LLVM-exception".to_owned());
        assert_eq!(*left, Expression::Licence { id: "Apache-2.0".into(), exception });
        assert_eq!(*right, Expression::Licence { id: "MIT".into(), exception: None });
        assert!(!with("Apache-2.0 WITH LLVM-exception", &["Apache-2.0"]));
    }

    #[test]
    fn an_or_later_licence_counts_as_its_base() {
        assert!(with("Zlib+", &["Zlib"]));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for text in
            ["", "MIT OR", "OR MIT", "(MIT", "MIT)", "MIT ISC", "MIT WITH", "see LICENSE!", "()"]
        {
            assert!(Expression::parse(text).is_err(), "{text}");
        }
    }
}
