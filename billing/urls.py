from django.urls import path

from billing import card_views, views, webhooks

app_name = "billing"
urlpatterns = [
    path("", views.index, name="index"),
    path("invoices/<int:pk>/pay/", card_views.pay, name="pay"),
    path("webhooks/stripe", webhooks.stripe, name="stripe"),
    path("ledger/", views.ledger_entries, name="ledger"),
    path("receipts/<int:pk>/", views.receipt, name="receipt"),
    path("account/", views.account, name="account"),
]
