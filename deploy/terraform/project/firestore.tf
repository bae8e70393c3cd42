resource "google_firestore_database" "own" {
  count                             = local.makes_a_database ? 1 : 0
  project                           = var.project
  name                              = var.database
  location_id                       = var.region
  type                              = "FIRESTORE_NATIVE"
  point_in_time_recovery_enablement = "POINT_IN_TIME_RECOVERY_ENABLED"
  delete_protection_state           = "DELETE_PROTECTION_ENABLED"
  depends_on                        = [google_project_service.needed]
}

resource "google_firestore_index" "declared" {
  for_each   = module.declared.indexes
  project    = var.project
  database   = var.database
  collection = "${local.documents}${each.value.collection}"

  dynamic "fields" {
    for_each = each.value.fields
    content {
      field_path = fields.value.path
      order      = fields.value.order
    }
  }

  depends_on = [google_firestore_database.own]
}

# Old documents go by themselves, and large fields that nobody asks by are not indexed.
resource "google_firestore_field" "declared" {
  for_each   = module.declared.fields
  project    = var.project
  database   = var.database
  collection = "${local.documents}${each.value.collection}"
  field      = each.value.path

  index_config {}

  dynamic "ttl_config" {
    for_each = each.value.ttl ? [true] : []
    content {}
  }

  depends_on = [google_firestore_database.own]
}
