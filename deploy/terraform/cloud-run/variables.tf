variable "service" {
  description = "The output `service` of module runtime."
  type = object({
    name            = string
    project         = string
    project_number  = string
    region          = string
    shadow          = bool
    service_account = string
    secrets         = map(string)
    settings        = string
    args            = list(string)
    env             = map(string)
    channels        = list(string)
  })
}

variable "image" {
  description = "The image, by its digest: REGISTRY/tipoff@sha256:…"
  type        = string

  validation {
    condition     = can(regex("@sha256:[0-9a-f]{64}$", var.image))
    error_message = "Name the image by its digest: a tag may become another one."
  }
}

variable "args" {
  description = "More arguments of `tipoff serve`."
  type        = list(string)
  default     = []
}

variable "instances_max" {
  description = "The most instances. One carries a pipeline; a second one is there while the first is replaced."
  type        = number
  default     = 3
}

variable "cpu" {
  type    = string
  default = "1"
}

variable "memory" {
  type    = string
  default = "512Mi"
}

variable "ingress" {
  description = "Who can reach it; Cloud Run lets in only its callers in any case. Not from everywhere means without the check of readiness from outside."
  type        = string
  default     = "INGRESS_TRAFFIC_ALL"
}

variable "deletion_protection" {
  description = "Whether Terraform refuses to delete the service: where not said, the real one and not a shadow's."
  type        = bool
  default     = null
}

variable "callers" {
  description = "Who may call it: operators, as group:ops@example.org, and whatever asks the monitors under their old paths. docs/deploy.md says how they say who they are."
  type        = set(string)
  default     = []
}

variable "deployers" {
  description = "Who may release an image."
  type        = set(string)
  default     = []
}
