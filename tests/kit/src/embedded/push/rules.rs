//! The endpoints of push rules. A change is told to the user's devices as account data.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State},
};
use ruma::push::{
    Action, InsertPushRuleError, NewConditionalPushRule, NewPatternedPushRule, NewPushRule,
    NewSimplePushRule, PushCondition, RemovePushRuleError, RuleKind, Ruleset,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{
    super::{
        Shared,
        answer::{Answer, Body, Sender, unrecognized},
        error::Refusal,
    },
    PushRules,
};

/// Reads a user's rules.
fn read<T>(
    shared: &Shared,
    sender: &Sender,
    read: impl FnOnce(&PushRules) -> Result<T, Refusal>,
) -> Result<T, Refusal> {
    let world = shared.world();
    let user = world.users.get(&sender.user_id).ok_or_else(Refusal::unknown_token)?;
    read(&user.push_rules)
}

/// Changes a user's rules, for the events to come.
fn change(
    shared: &Shared,
    sender: &Sender,
    change: impl FnOnce(&mut Ruleset) -> Result<(), Refusal>,
) -> Answer {
    shared.change(|world| {
        world.judge_for(&sender.user_id);
        let position = world.advance();
        let user = world.users.get_mut(&sender.user_id).ok_or_else(Refusal::unknown_token)?;
        change(&mut user.push_rules.rules)?;
        user.push_rules.changed = position;
        Ok(Json(json!({})))
    })
}

pub(in super::super) async fn all(State(shared): State<Arc<Shared>>, sender: Sender) -> Answer {
    read(&shared, &sender, |rules| Ok(Json(rules.shown())))
}

pub(in super::super) async fn global(State(shared): State<Arc<Shared>>, sender: Sender) -> Answer {
    read(&shared, &sender, |rules| Ok(Json(rules.shown()["global"].clone())))
}

/// A rule as it is shown; nothing where there is none.
fn find(rules: &PushRules, kind: &str, rule_id: &str) -> Result<Value, Refusal> {
    let shown = rules.shown();
    let of_kind = shown["global"].get(kind).and_then(Value::as_array);
    let rule = of_kind.into_iter().flatten().find(|rule| rule["rule_id"] == rule_id);
    rule.cloned().ok_or_else(|| Refusal::not_found("Not found"))
}

pub(in super::super) async fn get(
    State(shared): State<Arc<Shared>>,
    Path((kind, rule_id)): Path<(String, String)>,
    sender: Sender,
) -> Answer {
    read(&shared, &sender, |rules| find(rules, &kind, &rule_id).map(Json))
}

pub(in super::super) async fn attribute(
    State(shared): State<Arc<Shared>>,
    Path((kind, rule_id, attribute)): Path<(String, String, String)>,
    sender: Sender,
) -> Answer {
    let rule = read(&shared, &sender, |rules| find(rules, &kind, &rule_id))?;
    match rule.get(&attribute) {
        Some(value) => Ok(Json(json!({ attribute: value }))),
        None => Err(unrecognized().await),
    }
}

/// A field of a rule; `missing` is what its absence is called.
fn field<T: DeserializeOwned>(
    body: &Map<String, Value>,
    name: &str,
    missing: &str,
) -> Result<T, Refusal> {
    let value = body.get(name).ok_or_else(|| Refusal::unknown(missing))?;
    serde_json::from_value(value.clone())
        .map_err(|error| Refusal::unknown(format!("Invalid {name}: {error}")))
}

fn new_rule(
    kind: &RuleKind,
    rule_id: String,
    body: &Map<String, Value>,
) -> Result<NewPushRule, Refusal> {
    let actions = || field::<Vec<Action>>(body, "actions", "No actions found");
    let conditional = |rule_id| {
        let conditions: Vec<PushCondition> = field(body, "conditions", "Missing 'conditions'")?;
        Ok::<_, Refusal>(NewConditionalPushRule::new(rule_id, conditions, actions()?))
    };
    let invalid = |_| Refusal::unknown("the rule id is no id of its kind");
    Ok(match kind {
        RuleKind::Override => NewPushRule::Override(conditional(rule_id)?),
        RuleKind::Underride => NewPushRule::Underride(conditional(rule_id)?),
        RuleKind::Content => {
            let pattern = field(body, "pattern", "Content rule missing 'pattern'")?;
            NewPushRule::Content(NewPatternedPushRule::new(rule_id, pattern, actions()?))
        }
        RuleKind::Room => {
            let room_id = rule_id.try_into().map_err(invalid)?;
            NewPushRule::Room(NewSimplePushRule::new(room_id, actions()?))
        }
        RuleKind::Sender => {
            let user_id = rule_id.try_into().map_err(invalid)?;
            NewPushRule::Sender(NewSimplePushRule::new(user_id, actions()?))
        }
        other => return Err(Refusal::unknown(format!("Unknown template: {other}"))),
    })
}

pub(in super::super) async fn put(
    State(shared): State<Arc<Shared>>,
    Path((kind, rule_id)): Path<(String, String)>,
    Query(query): Query<HashMap<String, String>>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    let rule = new_rule(&RuleKind::from(kind), rule_id, &body)?;
    let place = |name: &str| query.get(name).map(String::as_str);
    change(&shared, &sender, |rules| {
        rules.insert(rule, place("after"), place("before")).map_err(|error| match error {
            InsertPushRuleError::ServerDefaultRuleId => {
                Refusal::unknown("cannot add new rule_ids that start with '.'")
            }
            other => Refusal::unknown(other.to_string()),
        })
    })
}

pub(in super::super) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path((kind, rule_id)): Path<(String, String)>,
    sender: Sender,
) -> Answer {
    change(&shared, &sender, |rules| {
        rules.remove(RuleKind::from(kind), rule_id).map_err(|error| match error {
            RemovePushRuleError::NotFound => Refusal::not_found("Not found"),
            other => Refusal::unknown(other.to_string()),
        })
    })
}

pub(in super::super) async fn set_attribute(
    State(shared): State<Arc<Shared>>,
    Path((kind, rule_id, attribute)): Path<(String, String, String)>,
    sender: Sender,
    Body(body): Body,
) -> Answer {
    let kind = RuleKind::from(kind);
    change(&shared, &sender, |rules| {
        let changed = match attribute.as_str() {
            "enabled" => {
                let enabled = field(&body, "enabled", "Value for 'enabled' must be boolean")?;
                rules.set_enabled(kind, rule_id, enabled)
            }
            "actions" => rules.set_actions(kind, rule_id, field(&body, "actions", "No actions")?),
            _ => return Err(Refusal::unknown("Unrecognized attribute")),
        };
        changed.map_err(|_| Refusal::not_found("Unknown rule"))
    })
}
