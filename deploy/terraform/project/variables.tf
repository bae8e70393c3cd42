variable "project" {
  description = "The Google Cloud project."
  type        = string
}

variable "region" {
  description = "Where the service, the database and the datasets are."
  type        = string
  default     = "us-west2"
}

variable "shadow" {
  description = "Whether this is for `tipoff serve --shadow`: subscriptions and documents of its own, and no right to publish anything but its own signs of life."
  type        = bool
  default     = false
}

variable "topics_file" {
  description = "See module declared."
  type        = string
  default     = null
}

variable "pipeline_file" {
  description = "See module declared."
  type        = string
  default     = null
}

variable "pipelines" {
  description = "See module declared."
  type        = set(string)
  default     = ["nba", "mlb"]
}

variable "services" {
  description = "Where consumers are, by their names in topics.yaml and pipeline.yaml. A subscription that pushes to one that is not here is not made: so it is switched over one at a time. With `cloud_run`, the name of a Cloud Run service in the region, its caller is let in."
  type = map(object({
    url       = string
    audience  = optional(string)
    identity  = optional(string, "oidc")
    cloud_run = optional(string)
  }))
  default = {}

  validation {
    condition     = alltrue([for service in values(var.services) : startswith(service.url, "https://")])
    error_message = "A service is called over https."
  }
}

variable "existing_topics" {
  description = "Topics of topics.yaml that are there already and belong to somebody else's Terraform, or to nobody's."
  type        = set(string)
  default     = []
}

variable "existing_subscriptions" {
  description = "Subscriptions of topics.yaml that are there already. `tipoff topics plan` says how they differ."
  type        = set(string)
  default     = []
}

variable "existing_databases" {
  description = "Firestore databases that are there already; `(default)` usually is."
  type        = set(string)
  default     = ["(default)"]
}

variable "existing_datasets" {
  description = "BigQuery datasets that are there already."
  type        = set(string)
  default     = ["nba_orchestration", "nba_reference"]
}

variable "existing_tables" {
  description = "Tables of schemas/bigquery that are there already, by their file."
  type        = set(string)
  default     = ["processor_run_history"]
}

variable "database" {
  description = "The Firestore database for what tipoff knows. One with a name of its own keeps it apart from everybody else's."
  type        = string
  default     = "tipoff"
}

variable "producers_database" {
  description = "The Firestore database into which processors write their heartbeats and locks."
  type        = string
  default     = "(default)"
}

variable "secrets" {
  description = "Secrets of Secret Manager that the service reads as files /secrets/NAME/value, by that name. `token` is the one that callers need. They are not made here: who may read their values is not decided by who runs Terraform."
  type        = map(string)
  default     = {}
}

variable "settings" {
  description = "More of tipoff.yaml, as alerts, by key; it outweighs what is made up here."
  type        = any
  default     = {}
}

variable "operators" {
  description = "Who may look at the dead letters that wait, as group:ops@example.org."
  type        = set(string)
  default     = []
}

variable "token_creator" {
  description = "Whether Pub/Sub's own account needs the right to make tokens for the push identity: only in projects from before April 2021."
  type        = bool
  default     = false
}

variable "notification_channels" {
  description = "Cloud Monitoring channels that are told when tipoff is silent."
  type        = list(string)
  default     = []
}
