//! The way out on Google Cloud: topics over Pub/Sub, services over HTTP, alerts into Firestore.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::adapter::firestore::Firestore;
use crate::adapter::google::services::Services;
use crate::adapter::pubsub::publisher::Publisher;
use crate::domain::effect::Alert;
use crate::domain::id::AlertKey;
use crate::port::{Bus, BusError};
use crate::topology::Topology;
use crate::wire::dispatch::{Outgoing, Target};

/// Publishes to the declared topics of one project.
#[derive(Debug)]
pub struct GoogleBus {
    topology: Arc<Topology>,
    publisher: Arc<Publisher>,
    services: Services,
    alerts: Arc<Firestore>,
}

impl GoogleBus {
    /// A bus of the topics in `topology`.
    pub fn new(topology: Arc<Topology>, publisher: Arc<Publisher>, services: Services, alerts: Arc<Firestore>) -> Self {
        Self { topology, publisher, services, alerts }
    }
}

#[async_trait]
impl Bus for GoogleBus {
    async fn send(&self, message: &Outgoing, _at: Timestamp) -> Result<(), BusError> {
        match &message.target {
            Target::Topic(topic) if self.topology.topic(topic).is_none() => {
                Err(BusError::Refused(format!("there is no topic {topic} in topics.yaml")))
            }
            Target::Topic(topic) => {
                let id = self.publisher.publish(topic, message.body.clone(), &message.attributes).await?;
                tracing::debug!(dispatch = message.id, topic, message = id, "published");
                Ok(())
            }
            Target::Http { service, path } => {
                self.services.call(service, path, message.body.clone(), &message.attributes).await
            }
        }
    }

    async fn alert(&self, alert: &Alert) -> Result<(), BusError> {
        self.alerts.tell(alert).await.map(|_| ()).map_err(|error| BusError::Unavailable(error.to_string()))
    }

    async fn alert_of(&self, key: &AlertKey) -> Result<Option<Alert>, BusError> {
        self.alerts.alert_of(key).await.map_err(|error| BusError::Unavailable(error.to_string()))
    }

    async fn alerts(&self) -> Result<Vec<Alert>, BusError> {
        self.alerts.alerts_on().await.map_err(|error| BusError::Unavailable(error.to_string()))
    }
}
