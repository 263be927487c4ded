"""The admin's rules: who enters, what each role may do there, and which lookups a link may carry."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from oversight.models import Role, User
from oversight.permissions import has_role
from oversight.services import audit


class OversightAdminSite(admin.AdminSite):
    """Enter with the role researcher or above; sign in on the ordinary page."""

    site_header = "Oversight admin"
    site_title = "Oversight"
    index_title = "Rounds, principles, seeds and people"
    site_url = "/"

    def has_permission(self, request: HttpRequest) -> bool:
        return has_role(request.user, Role.RESEARCHER)

    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if self.has_permission(request):
            return redirect("admin:index")
        if request.user.is_authenticated:
            raise PermissionDenied("The admin needs the role researcher or above.")
        return redirect_to_login(request.GET.get("next") or "/admin/")


class RoleAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A model that researchers see, and that `change_role` and above may change. Nothing is deleted by default."""

    view_role = Role.RESEARCHER
    change_role = Role.RESEARCHER
    delete_role: Role | None = None
    list_per_page = 50
    show_full_result_count = False  # counting a large table twice costs more than it tells

    def has_module_permission(self, request: HttpRequest) -> bool:
        return has_role(request.user, self.view_role)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return has_role(request.user, self.view_role)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return has_role(request.user, self.change_role)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return has_role(request.user, self.change_role)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.delete_role is not None and has_role(request.user, self.delete_role)

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        """Only what `list_filter` offers. Django also allows every local column, `password__startswith` too."""
        for name in self.list_filter:
            field = name[0] if isinstance(name, tuple) else name
            if isinstance(field, str) and lookup in (field, f"{field}__exact", f"{field}__id__exact"):
                return True
        return False

    # What people change here goes into the hash-chained audit log, beside Django's own history.

    def log_addition(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        _audit(request, "admin.add", obj, message)
        return super().log_addition(request, obj, message)

    def log_change(self, request: HttpRequest, obj: Model, message: Any) -> Any:
        _audit(request, "admin.change", obj, message)
        return super().log_change(request, obj, message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for obj in queryset:
            _audit(request, "admin.delete", obj, str(obj))
        return super().log_deletions(request, queryset)


class ReadOnlyAdmin(RoleAdmin):
    """Rows that are evidence: shown, never touched."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


def actor(request: HttpRequest) -> User:
    """Who acts; the site lets nobody else in."""
    if not isinstance(request.user, User):
        raise PermissionDenied
    return request.user


def _audit(request: HttpRequest, action: str, obj: Model, message: Any) -> None:
    audit.record(request.user.get_username(), action, f"{obj._meta.model_name}:{obj.pk}", message=message)
