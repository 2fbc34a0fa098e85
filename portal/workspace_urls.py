"""The pages under /workspaces/: of people from accounts, of what a workspace holds from reservations."""

from accounts import team_views
from reservations.views import workspace

app_name = "workspaces"
urlpatterns = [*team_views.urlpatterns, *workspace.urlpatterns]
