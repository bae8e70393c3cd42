variable "service" {
  description = "The output `service` of module project."
  type = object({
    name            = string
    project         = string
    project_number  = string
    region          = string
    shadow          = bool
    service_account = string
    secrets         = map(string)
    settings        = string
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

variable "callers" {
  description = "Who may call it: operators, and whatever asks the monitors under their old paths. Cloud Run reads their token from X-Serverless-Authorization, tipoff its own from Authorization."
  type        = set(string)
  default     = []
}

variable "deployers" {
  description = "Who may release an image."
  type        = set(string)
  default     = []
}
