output "name" {
  description = "What accounts, services and alerts are called; a shadow's are others."
  value       = trimsuffix("tipoff-${var.shadow_prefix}", "-")
}

output "documents" {
  description = "What the names of Firestore collections begin with; as `google.prefix` of tipoff.yaml, which nobody has to say."
  value       = "tipoff_${replace(var.shadow_prefix, "-", "_")}"
}

output "topics" {
  description = "Topics to make, by name."
  value = { for name, topic in local.topics : name => {
    pipeline    = topic.pipeline
    carries     = topic.carries
    retention_s = local.seconds[try(topic.retention, local.file.defaults.topic.retention)]
  } }
}

output "retired" {
  description = "Topics that nothing should publish on any more, and why."
  value       = local.retired
}

output "subscriptions" {
  description = "Subscriptions to make, by name. None of them expires: by default Pub/Sub deletes one after 31 idle days."
  value = { for name, s in local.subscriptions : name => {
    topic          = s.topic
    carries        = s.carries
    consumer       = s.consumer
    push           = s.delivery == "push" ? { path = s.path, wrapped = s.wrapped } : null
    ack_deadline_s = local.seconds[s.ack_deadline]
    retention_s    = local.seconds[s.retention]
    backoff_min_s  = local.seconds[s.backoff_min]
    backoff_max_s  = local.seconds[s.backoff_max]
    dead_letter    = lookup(local.letters, name, null)
    attempts_max   = contains(keys(local.letters), name) ? s.attempts_max : null
  } }
}

output "reads" {
  description = "Subscriptions that tipoff reads."
  value       = local.reads
}

output "sends" {
  description = "Topics that tipoff publishes on."
  value       = local.sends
}

output "waiting" {
  description = "Subscriptions in which dead letters wait for people."
  value       = sort([for name, s in local.subscriptions : name if s.carries == "dead-letter" && s.consumer != local.ourselves])
}

output "heartbeats" {
  description = "Subscriptions over which tipoff hears proofs of life, its own every 20 s among them."
  value       = sort([for name, s in local.subscriptions : name if s.carries == "heartbeat" && s.consumer == local.ourselves])
}

output "grants" {
  description = "Who may do what on what that is declared here: the least that works."
  value       = local.grants
}

output "indexes" {
  description = "Composite indexes of the Firestore database."
  value = { for index in local.database.indexes :
    join("-", concat([trimprefix(index.collectionGroup, "tipoff_")], [for field in index.fields : "${field.fieldPath}.${lower(field.order)}"])) => {
      collection = trimprefix(index.collectionGroup, "tipoff_")
      fields     = [for field in index.fields : { path = field.fieldPath, order = field.order }]
    }
  }
}

output "fields" {
  description = "Fields of the Firestore database that need no index, and those by which old documents go."
  value = { for field in local.database.fieldOverrides :
    "${trimprefix(field.collectionGroup, "tipoff_")}-${field.fieldPath}" => {
      collection = trimprefix(field.collectionGroup, "tipoff_")
      path       = field.fieldPath
      ttl        = field.ttl
    }
  }
}

output "tables" {
  description = "Tables of the history in BigQuery."
  value = { for name, schema in local.history : name => {
    dataset     = schema.tableReference.datasetId
    table       = schema.tableReference.tableId
    description = schema.description
    partition   = { type = schema.timePartitioning.type, field = schema.timePartitioning.field }
    clustering  = schema.clustering.fields
    fields      = schema.schema.fields
  } }
}

output "datasets" {
  description = "Datasets that probes and reports read."
  value       = local.datasets
}
