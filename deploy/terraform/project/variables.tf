variable "project" {
  description = "The Google Cloud project."
  type        = string
}

variable "region" {
  description = "Where the service, the database and the datasets are."
  type        = string
  default     = "us-west2"
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

variable "existing_topics" {
  description = "Topics of topics.yaml that are there already and belong to somebody else's Terraform, or to nobody's."
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
