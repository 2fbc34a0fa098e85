from django.urls import path

from billing import card_views, invoice_views, views, webhooks

app_name = "billing"
urlpatterns = [
    path("", views.index, name="index"),
    path("invoices/<int:pk>/pay/", card_views.pay, name="pay"),
    path("webhooks/stripe", webhooks.stripe, name="stripe"),
    path("ledger/", views.ledger_entries, name="ledger"),
    path("receipts/<int:pk>/", views.receipt, name="receipt"),
    path("account/", views.account, name="account"),
    path("invoices/", invoice_views.invoice_list, name="invoices"),
    path("invoices.csv", invoice_views.invoices_csv, name="invoices-csv"),
    path("ledger.csv", invoice_views.ledger_csv, name="ledger-csv"),
    path("usage.csv", invoice_views.usage_csv, name="usage-csv"),
    # A number may contain slashes: BERTH_INVOICE_PREFIX.
    path("invoices/<path:number>/pdf", invoice_views.invoice_pdf, name="invoice-pdf"),
    path("invoices/<path:number>/csv", invoice_views.invoice_csv, name="invoice-csv"),
    path("invoices/<path:number>/", invoice_views.invoice_page, name="invoice"),
]
