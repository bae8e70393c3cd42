resource "google_bigquery_dataset" "history" {
  for_each                   = local.new_datasets
  project                    = var.project
  dataset_id                 = each.key
  location                   = var.region
  delete_contents_on_destroy = false
  depends_on                 = [google_project_service.needed]
}

resource "google_bigquery_table" "history" {
  for_each            = local.new_tables
  project             = var.project
  dataset_id          = each.value.dataset
  table_id            = each.value.table
  description         = each.value.description
  schema              = jsonencode(each.value.fields)
  clustering          = each.value.clustering
  deletion_protection = true

  time_partitioning {
    type  = each.value.partition.type
    field = each.value.partition.field
  }

  depends_on = [google_bigquery_dataset.history]
}
