# Whom the pods of tipoff may call: resolvers, the metadata server that tells who we are, HTTPS outside private networks, and
# what is named. No provider, so that a test can show what is open.

terraform {
  required_version = ">= 1.5"
}

variable "resolvers" {
  description = "Addresses of resolvers outside the pods of kube-dns: NodeLocal DNSCache, and the metadata server, which Cloud DNS answers by."
  type        = set(string)
  default     = ["169.254.20.10/32", "169.254.169.254/32"]
}

variable "collectors_in_namespaces" {
  description = "Namespaces with an OpenTelemetry collector, which is sent to by 4317 and 4318; `telemetry` of tipoff.yaml names it."
  type        = set(string)
  default     = []
}

variable "mail_to" {
  description = "Address ranges of mail servers, which are sent to by 465 and 587."
  type        = set(string)
  default     = []
}

variable "calls_to" {
  description = "What else it calls in private networks, as services behind an internal load balancer: address ranges and ports of TCP."
  type        = list(object({ cidr = string, ports = optional(set(number), [443]) }))
  default     = []

  validation {
    condition     = alltrue([for call in var.calls_to : can(cidrhost(call.cidr, 0)) && length(call.ports) > 0])
    error_message = "calls_to has address ranges, as 10.1.0.0/24, and at least one port each."
  }
}

variable "private_ranges" {
  description = "More address ranges that it must not call by 443, as public ones that a network uses in private."
  type        = list(string)
  default     = []
}

locals {
  private = ["10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]
  names = {
    ports  = [{ port = 53, protocol = "UDP" }, { port = 53, protocol = "TCP" }]
    blocks = [for cidr in sort(var.resolvers) : { cidr = cidr, except = [] }]
    pods   = [for app in ["kube-dns", "node-local-dns"] : { namespace = "kube-system", labels = { "k8s-app" = app } }]
  }
  metadata = {
    ports  = [{ port = 80, protocol = "TCP" }, { port = 988, protocol = "TCP" }]
    blocks = [for cidr in ["169.254.169.252/32", "169.254.169.254/32"] : { cidr = cidr, except = [] }]
    pods   = []
  }
  https = {
    ports  = [{ port = 443, protocol = "TCP" }]
    blocks = [{ cidr = "0.0.0.0/0", except = concat(local.private, var.private_ranges) }]
    pods   = []
  }
  collectors = {
    ports  = [for port in [4317, 4318] : { port = port, protocol = "TCP" }]
    blocks = []
    pods   = [for name in sort(var.collectors_in_namespaces) : { namespace = name, labels = {} }]
  }
  mail = {
    ports  = [for port in [465, 587] : { port = port, protocol = "TCP" }]
    blocks = [for cidr in sort(var.mail_to) : { cidr = cidr, except = [] }]
    pods   = []
  }
  calls = [for call in var.calls_to : {
    ports  = [for port in call.ports : { port = port, protocol = "TCP" }]
    blocks = [{ cidr = call.cidr, except = [] }]
    pods   = []
  }]
}

output "egress" {
  description = "Rules of a network policy. One that names nobody would let everything through, so there is none such."
  value = [for rule in concat([local.names, local.metadata, local.https, local.collectors, local.mail], local.calls) :
    rule if length(rule.blocks) + length(rule.pods) > 0
  ]
}
