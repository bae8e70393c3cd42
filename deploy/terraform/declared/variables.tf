variable "topics_file" {
  description = "The messaging topology; the repository's topics.yaml where not said. It must be the one that the service reads: built in, or what TIPOFF_TOPICS names."
  type        = string
  default     = null
}

variable "pipeline_file" {
  description = "The pipelines; the repository's pipeline.yaml where not said. Only the names of datasets are read from it."
  type        = string
  default     = null
}

variable "pipelines" {
  description = "The pipelines whose datasets may be read; a dataset belongs to the pipeline that its name begins with."
  type        = set(string)
  default     = ["nba", "mlb"]
}

variable "shadow_prefix" {
  description = "What comes before the names of subscriptions of `tipoff serve --shadow`, as `shadow-`; empty for the real one."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([a-z][a-z0-9-]*-)?$", var.shadow_prefix))
    error_message = "A prefix is of small letters, digits and hyphens, and ends in a hyphen."
  }
}

variable "replay" {
  description = "Whether `tipoff dlq replay` may publish on the topics that letters came from."
  type        = bool
  default     = true
}
