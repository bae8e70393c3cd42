output "service" {
  description = "What the modules cloud-run and gke need."
  value = {
    name            = module.declared.name
    project         = var.project.id
    project_number  = var.project.number
    region          = var.project.region
    shadow          = var.shadow
    service_account = google_service_account.orchestrator.email
    secrets         = var.secrets
    settings        = module.settings.yaml
    args            = module.settings.args
    env             = module.settings.env
    channels        = var.notification_channels
  }
}

output "unplaced" {
  description = "Subscriptions that are not made, because nobody has said where their consumers are."
  value       = local.unplaced
}
