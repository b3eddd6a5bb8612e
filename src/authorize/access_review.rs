//! Kubernetes' own word, by SubjectAccessReview, for clusters that do know their people.
//!
//! The question becomes attributes of a request that nobody sends: which verb on which resource of which group, in the
//! target's namespace. What these are is configuration (`Template`), since a cluster's roles are its own. The cache is
//! keyed by the attributes: where the pod's name is none of them, a namespace is one question, however many pods it has.

use futures_util::future::BoxFuture;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec, SubjectAccessReviewStatus,
};
use kube::api::PostParams;
use kube::{Api, Client};

use super::guarded::Backend;
use super::template::Template;
use super::{Decision, Obligations, Query, Unavailable};
use crate::config::authorize::AccessReview as Settings;

/// Whom to ask: a cluster's API server. Made only by `cluster`.
#[derive(Clone)]
pub struct Reviewer(Client);

/// A cluster that is asked.
pub(super) struct AccessReview {
    client: Client,
    user: Template,
    group_prefix: String,
    api_group: Template,
    resource: Template,
    subresource: Template,
    verb: Template,
    name: Template,
}

/// One request that nobody sends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Attributes {
    user: String,
    groups: Vec<String>,
    namespace: String,
    api_group: String,
    resource: String,
    subresource: String,
    verb: String,
    name: String,
}

impl Reviewer {
    pub fn new(client: Client) -> Reviewer {
        Reviewer(client)
    }
}

impl AccessReview {
    /// Errors: a template that is none, with its key.
    pub(super) fn new(settings: &Settings, Reviewer(client): Reviewer) -> Result<AccessReview, String> {
        let template = |key: &str, text: &str| Template::parse(text).map_err(|problem| format!("{key}: {problem}"));
        Ok(AccessReview {
            client,
            user: template("user", &settings.user)?,
            group_prefix: settings.group_prefix.clone(),
            api_group: template("api-group", &settings.api_group)?,
            resource: template("resource", &settings.resource)?,
            subresource: template("subresource", &settings.subresource)?,
            verb: template("verb", &settings.verb)?,
            name: template("name", &settings.name)?,
        })
    }
}

impl Backend for AccessReview {
    type Question = Attributes;
    type Answer = SubjectAccessReviewStatus;

    fn question(&self, query: &Query) -> Result<Attributes, String> {
        Ok(Attributes {
            user: self.user.fill(query),
            groups: query.user.groups.iter().map(|group| format!("{}{group}", self.group_prefix)).collect(),
            namespace: query.target.namespace.clone(),
            api_group: self.api_group.fill(query),
            resource: self.resource.fill(query),
            subresource: self.subresource.fill(query),
            verb: self.verb.fill(query),
            name: self.name.fill(query),
        })
    }

    fn ask<'a>(&'a self, asked: &'a Attributes) -> BoxFuture<'a, Result<SubjectAccessReviewStatus, Unavailable>> {
        Box::pin(async move {
            // What is empty is not asked about, as in a request without it.
            let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
            let review = SubjectAccessReview {
                spec: SubjectAccessReviewSpec {
                    user: Some(asked.user.clone()),
                    groups: Some(asked.groups.clone()),
                    resource_attributes: Some(ResourceAttributes {
                        namespace: some(&asked.namespace),
                        group: some(&asked.api_group),
                        resource: some(&asked.resource),
                        subresource: some(&asked.subresource),
                        verb: some(&asked.verb),
                        name: some(&asked.name),
                        ..ResourceAttributes::default()
                    }),
                    ..SubjectAccessReviewSpec::default()
                },
                ..SubjectAccessReview::default()
            };
            let reviews = Api::<SubjectAccessReview>::all(self.client.clone());
            let answer = reviews.create(&PostParams::default(), &review).await;
            let answer = answer.map_err(|error| Unavailable(format!("the api server gave no answer: {error}")))?;
            answer.status.ok_or_else(|| Unavailable("the api server's answer has no status".to_owned()))
        })
    }

    fn judge(&self, query: &Query, answer: &SubjectAccessReviewStatus) -> Decision {
        let said = answer.reason.as_deref().filter(|reason| !reason.is_empty());
        let said = said.or(answer.evaluation_error.as_deref()).unwrap_or("no reason given");
        match answer.allowed && !answer.denied.unwrap_or(false) {
            true => Decision { allow: true, reason: said.to_owned(), obligations: Obligations::default() },
            false => Decision::denied(format!(
                "{} may not {} in {}: {said}",
                query.user.subject, query.action, query.target.namespace
            )),
        }
    }
}
