//! Functions of a file's own. The evaluator knows functions of this program alone, so before anything is evaluated a call of
//! one is replaced by the expression of its result, with the arguments where its parameters stand.

use std::collections::BTreeMap;
use std::str::FromStr;

use hcl::Identifier;
use hcl::expr::{
    BinaryOp, Conditional, Expression, ForExpr, FuncCall, Heredoc, ObjectKey, Operation, TemplateExpr, Traversal,
    TraversalOperator, UnaryOp, Variable,
};
use hcl::template::{Directive, Element, ForDirective, IfDirective, Interpolation, Template};

use super::read::Attributes;

/// Most functions that are called inside each other.
const DEPTH_LIMIT: usize = 50;
/// Most parts of an expression after its functions were put in: each of them may double what it is given.
const SIZE_LIMIT: usize = 100_000;

type Outcome<T> = Result<T, String>;

/// The functions of all files.
#[derive(Debug, Default)]
pub(super) struct Functions {
    known: BTreeMap<String, Function>,
}

#[derive(Debug)]
struct Function {
    parameters: Vec<String>,
    /// The parameter that takes all further arguments as a list.
    rest: Option<String>,
    result: Expression,
}

impl Functions {
    /// Reads their blocks; the error has the name of the function.
    pub(super) fn read(blocks: &BTreeMap<String, Attributes>) -> Result<Functions, (String, String)> {
        let mut known = BTreeMap::new();
        for (name, attributes) in blocks {
            let function = Function::read(attributes).map_err(|reason| (name.clone(), reason))?;
            known.insert(name.clone(), function);
        }
        Ok(Functions { known })
    }

    /// The expression without calls of these functions.
    pub(super) fn inline(&self, expression: &Expression) -> Outcome<Expression> {
        if self.known.is_empty() {
            return Ok(expression.clone());
        }
        Inliner { functions: self, parts: 0, renamed: 0 }.expression(expression, &Scope::default())
    }
}

impl Function {
    fn read(attributes: &Attributes) -> Outcome<Function> {
        if let Some(other) =
            attributes.keys().find(|key| !["params", "variadic_params", "result"].contains(&key.as_str()))
        {
            return Err(format!("it has no `{other}`: params, variadic_params and result are"));
        }
        let name = |expression: &Expression| match expression {
            Expression::Variable(variable) => Ok(variable.as_str().to_owned()),
            Expression::String(text) => Ok(text.clone()),
            other => Err(format!("`{other}` is no name of a parameter")),
        };
        let parameters = match attributes.get("params") {
            None => Vec::new(),
            Some(Expression::Array(list)) => list.iter().map(name).collect::<Outcome<_>>()?,
            Some(_) => return Err("`params` must be a list of names".to_owned()),
        };
        let rest = attributes.get("variadic_params").map(name).transpose()?;
        let result = attributes.get("result").ok_or("it needs a `result`")?.clone();
        Ok(Function { parameters, rest, result })
    }
}

/// What names stand for inside a function; empty outside of all.
#[derive(Default)]
struct Scope {
    /// The expression, and of how many parts it is.
    names: BTreeMap<String, (Expression, usize)>,
    depth: usize,
}

impl Scope {
    fn with(&self, names: impl IntoIterator<Item = (String, Identifier)>) -> Scope {
        let mut all = self.names.clone();
        all.extend(names.into_iter().map(|(name, new)| (name, (Expression::Variable(Variable::from(new)), 1))));
        Scope { names: all, depth: self.depth }
    }
}

struct Inliner<'a> {
    functions: &'a Functions,
    parts: usize,
    renamed: usize,
}

impl Inliner<'_> {
    fn count(&mut self, parts: usize) -> Outcome<()> {
        self.parts = self.parts.saturating_add(parts);
        if self.parts > SIZE_LIMIT {
            return Err(format!("its functions make more than {SIZE_LIMIT} parts of it"));
        }
        Ok(())
    }

    fn expression(&mut self, expression: &Expression, scope: &Scope) -> Outcome<Expression> {
        self.count(1)?;
        Ok(match expression {
            Expression::Variable(variable) => match scope.names.get(variable.as_str()) {
                Some((value, parts)) => {
                    self.count(*parts)?;
                    value.clone()
                }
                None => expression.clone(),
            },
            Expression::Array(list) => Expression::Array(self.all(list, scope)?),
            Expression::Object(object) => {
                let entry = |(key, value): (&ObjectKey, &Expression)| {
                    let key = match key {
                        ObjectKey::Expression(key) => ObjectKey::Expression(self.expression(key, scope)?),
                        other => other.clone(),
                    };
                    Ok((key, self.expression(value, scope)?))
                };
                Expression::Object(object.iter().map(entry).collect::<Outcome<_>>()?)
            }
            Expression::TemplateExpr(template) => self.text(template, scope)?,
            Expression::Traversal(traversal) => self.traversal(traversal, scope)?,
            Expression::FuncCall(call) => self.call(call, scope)?,
            Expression::Parenthesis(inner) => Expression::Parenthesis(Box::new(self.expression(inner, scope)?)),
            Expression::Conditional(choice) => Expression::from(Conditional::new(
                self.expression(&choice.cond_expr, scope)?,
                self.expression(&choice.true_expr, scope)?,
                self.expression(&choice.false_expr, scope)?,
            )),
            Expression::Operation(operation) => Expression::from(match operation.as_ref() {
                Operation::Unary(one) => {
                    Operation::from(UnaryOp::new(one.operator, self.expression(&one.expr, scope)?))
                }
                Operation::Binary(two) => Operation::from(BinaryOp::new(
                    self.expression(&two.lhs_expr, scope)?,
                    two.operator,
                    self.expression(&two.rhs_expr, scope)?,
                )),
            }),
            Expression::ForExpr(each) => self.each(each, scope)?,
            other => other.clone(),
        })
    }

    fn all(&mut self, list: &[Expression], scope: &Scope) -> Outcome<Vec<Expression>> {
        list.iter().map(|one| self.expression(one, scope)).collect()
    }

    fn maybe(&mut self, expression: Option<&Expression>, scope: &Scope) -> Outcome<Option<Expression>> {
        expression.map(|expression| self.expression(expression, scope)).transpose()
    }

    fn traversal(&mut self, traversal: &Traversal, scope: &Scope) -> Outcome<Expression> {
        let start = self.expression(&traversal.expr, scope)?;
        let operator = |operator: &TraversalOperator| {
            Ok(match operator {
                TraversalOperator::Index(index) => TraversalOperator::Index(self.expression(index, scope)?),
                other => other.clone(),
            })
        };
        let operators: Vec<TraversalOperator> = traversal.operators.iter().map(operator).collect::<Outcome<_>>()?;
        Ok(Expression::from(Traversal::new(start, operators)))
    }

    fn call(&mut self, call: &FuncCall, scope: &Scope) -> Outcome<Expression> {
        let mut arguments = Vec::new();
        for argument in &call.args {
            let before = self.parts;
            let argument = self.expression(argument, scope)?;
            arguments.push((argument, self.parts - before));
        }
        let name = call.name.name.as_str();
        let Some(function) = self.functions.known.get(name).filter(|_| !call.name.is_namespaced()) else {
            let mut plain = call.clone();
            plain.args = arguments.into_iter().map(|(argument, _)| argument).collect();
            return Ok(Expression::from(plain));
        };
        if scope.depth >= DEPTH_LIMIT {
            return Err(format!("`{name}` and the functions that it calls go deeper than {DEPTH_LIMIT} calls"));
        }
        let wanted = function.parameters.len();
        let more = arguments.split_off(arguments.len().min(wanted));
        if arguments.len() < wanted || (function.rest.is_none() && !more.is_empty()) {
            let least = if function.rest.is_some() { "at least " } else { "" };
            return Err(format!("`{name}` takes {least}{wanted} arguments, not {}", call.args.len()));
        }
        let mut names: BTreeMap<_, _> = function.parameters.iter().cloned().zip(arguments).collect();
        match (&function.rest, call.expand_final) {
            (Some(rest), false) => {
                let parts = more.iter().fold(1_usize, |all, (_, parts)| all.saturating_add(*parts));
                let list = more.into_iter().map(|(argument, _)| argument).collect();
                names.insert(rest.clone(), (Expression::Array(list), parts));
            }
            // What stands before `...` is the list of all that is left.
            (Some(rest), true) if more.len() == 1 => names.extend(more.into_iter().map(|list| (rest.clone(), list))),
            (_, true) => return Err(format!("`{name}` cannot take its arguments from a list with `...`")),
            (None, false) => {}
        }
        let scope = Scope { names, depth: scope.depth + 1 };
        Ok(Expression::Parenthesis(Box::new(self.expression(&function.result, &scope)?)))
    }

    /// Inside a function the names that it binds itself get new ones, so that an argument never meets them.
    fn bind(
        &mut self,
        scope: &Scope,
        key: Option<&Identifier>,
        value: &Identifier,
    ) -> (Scope, Option<Identifier>, Identifier) {
        if scope.depth == 0 {
            return (scope.with([]), key.cloned(), value.clone());
        }
        self.renamed += 1;
        let fresh = |name: &Identifier| Identifier::sanitized(format!("{}-bound-{}", name.as_str(), self.renamed));
        let (new_key, new_value) = (key.map(fresh), fresh(value));
        let names = key.zip(new_key.clone()).into_iter().chain([(value, new_value.clone())]);
        let inner = scope.with(names.map(|(old, new)| (old.as_str().to_owned(), new)));
        (inner, new_key, new_value)
    }

    fn each(&mut self, each: &ForExpr, scope: &Scope) -> Outcome<Expression> {
        let collection = self.expression(&each.collection_expr, scope)?;
        let (inner, key_var, value_var) = self.bind(scope, each.key_var.as_ref(), &each.value_var);
        let mut new = ForExpr::new(value_var, collection, self.expression(&each.value_expr, &inner)?);
        new.key_var = key_var;
        new.key_expr = self.maybe(each.key_expr.as_ref(), &inner)?;
        new.cond_expr = self.maybe(each.cond_expr.as_ref(), &inner)?;
        new.grouping = each.grouping;
        Ok(Expression::from(new))
    }

    /// A text with `${…}`; it stays as it was written where nothing in it changes.
    fn text(&mut self, written: &TemplateExpr, scope: &Scope) -> Outcome<Expression> {
        let before = Template::from_expr(written).map_err(|error| error.to_string())?;
        let after = self.template(&before, scope)?;
        if before == after {
            return Ok(Expression::from(written.clone()));
        }
        let text = after.to_string();
        // It is text only as long as it can be read again.
        Template::from_str(&text).map_err(|error| error.to_string())?;
        Ok(Expression::from(match written {
            TemplateExpr::QuotedString(_) => TemplateExpr::QuotedString(text),
            TemplateExpr::Heredoc(heredoc) => {
                TemplateExpr::Heredoc(Heredoc::new(heredoc.delimiter.clone(), text).with_strip_mode(heredoc.strip))
            }
        }))
    }

    fn template(&mut self, template: &Template, scope: &Scope) -> Outcome<Template> {
        template.elements().iter().map(|element| self.element(element, scope)).collect()
    }

    fn element(&mut self, element: &Element, scope: &Scope) -> Outcome<Element> {
        Ok(match element {
            Element::Literal(_) => element.clone(),
            Element::Interpolation(one) => {
                Element::Interpolation(Interpolation { expr: self.expression(&one.expr, scope)?, strip: one.strip })
            }
            Element::Directive(directive) => Element::Directive(Box::new(match directive.as_ref() {
                Directive::If(choice) => Directive::If(IfDirective {
                    cond_expr: self.expression(&choice.cond_expr, scope)?,
                    true_template: self.template(&choice.true_template, scope)?,
                    false_template: match &choice.false_template {
                        Some(template) => Some(self.template(template, scope)?),
                        None => None,
                    },
                    ..choice.clone()
                }),
                Directive::For(each) => {
                    let collection_expr = self.expression(&each.collection_expr, scope)?;
                    let (inner, key_var, value_var) = self.bind(scope, each.key_var.as_ref(), &each.value_var);
                    let template = self.template(&each.template, &inner)?;
                    Directive::For(ForDirective { key_var, value_var, collection_expr, template, ..each.clone() })
                }
            })),
        })
    }
}
