"""Kept volumes."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from reservations import actions, kept_volumes
from reservations.models import WorkspaceVolume
from reservations.permissions import check_user_can_delete_volume
from reservations.views.common import visitor


@login_required
@require_http_methods(["GET", "POST"])
def volume_delete(request: HttpRequest, pk: int) -> HttpResponse:
    user = visitor(request)
    rows = WorkspaceVolume.objects.present().visible_to(user).select_related("volume", "service", "workspace")
    volume = get_object_or_404(rows, pk=pk)
    check_user_can_delete_volume(user, volume)
    if request.method == "GET":
        used_by = kept_volumes.used_by([volume]).get(volume.pk)
        return render(request, "reservations/volume_delete.html", {"volume": volume, "used_by": used_by})
    try:
        actions.delete_volume(volume=volume, by=user, now=timezone.now())
    except actions.VolumeInUse as problem:
        messages.error(request, str(problem))
    else:
        messages.success(request, f"The volume {volume.name} is being deleted.")
    return redirect("reservations:list")


urlpatterns = [path("volumes/<int:pk>/delete/", volume_delete, name="volume-delete")]
