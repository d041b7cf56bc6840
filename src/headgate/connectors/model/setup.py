"""What setting up an integration asks for, and whether what is given can be that.

Each value has the name of its integration and of its variable in the catalog, `openai_api_key`;
the variable alone is understood as well. The secret is stored in the vault under that name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import msgspec

from headgate.catalog.model.manifest import API_KEY, IntegrationManifest
from headgate.connectors.model.errors import InvalidInputError, UnknownIntegrationError

BASE_URL = "base_url"
ORGANIZATION = "organization"
FIELD = "secrets.{name}"
ORGANIZATION_PATTERN = r"^[\x21-\x7e]{1,200}$"
RECOVERY = (
    "`get_integration_schema` describes each value and tells where to find it. Ask the user for "
    "it, and never invent one."
)


class SetupField(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a value that an integration needs. A sensitive one is sealed in the vault and never
    returned; `pattern` is a regular expression that the whole value matches."""

    name: str
    display_name: str
    description: str
    required: bool
    sensitive: bool
    pattern: str
    sample_format: str = ""
    default: str | None = None
    about_url: str | None = None


class SetupValues(msgspec.Struct, frozen=True):
    """Hold the values of an integration. None is what the catalog has."""

    secret: str
    base_url: str | None = None
    organization: str | None = None

    def __repr__(self) -> str:
        return f"SetupValues({self.base_url}, {self.organization})"


def name_value(integration: str, variable: str) -> str:
    """Return the name of a value, which is the name of its secret in the vault as well."""
    return f"{integration}_{variable}"


def list_fields(manifest: IntegrationManifest) -> Sequence[SetupField]:
    """Return the values that an integration can have, as its catalog file has them; none where it
    needs no setup."""
    if not manifest.auth_schemas:
        return ()
    schema = manifest.auth_schemas[0]
    fields = [
        SetupField(
            name=name_value(manifest.name, each.name),
            display_name=each.display_name,
            description=each.description,
            required=each.required and not each.default,
            sensitive=each.sensitive,
            pattern=each.pattern,
            sample_format=each.sample_format,
            default=each.default or None,
            about_url=each.about_url,
        )
        for each in schema.variables
    ]
    if schema.organization_header and schema.find_variable(ORGANIZATION) is None:
        fields.append(
            SetupField(
                name=name_value(manifest.name, ORGANIZATION),
                display_name="Organization",
                description="The id of your organization there, if the account has several.",
                required=False,
                sensitive=False,
                pattern=ORGANIZATION_PATTERN,
            )
        )
    return fields


def read_values(manifest: IntegrationManifest, given: Mapping[str, str]) -> SetupValues:
    """Return the values under the names of the catalog. Raise `InvalidInputError` for a missing,
    an unknown and a malformed one; the message never has a value."""
    fields = {each.name: each for each in list_fields(manifest)}
    if not fields:
        raise InvalidInputError(f"{manifest.display_name} needs no setup.", param="service")
    values: dict[str, str] = {}
    for name, value in given.items():
        full = name if name in fields else name_value(manifest.name, name)
        if full not in fields:
            raise make_invalid_value_error(
                f"{manifest.display_name} has no value of this name; it has: {', '.join(fields)}.",
                name,
            )
        if full in values:
            raise make_invalid_value_error(f"`{full}` is given twice.", name)
        values[full] = check_value(fields[full], value.strip(), name)
    for field in fields.values():
        if field.required and not values.get(field.name):
            raise make_invalid_value_error(
                f"`{field.name}` is missing: {describe_field(field)}", field.name
            )
    found = {
        variable: values.get(name_value(manifest.name, variable)) or None
        for variable in (API_KEY, BASE_URL, ORGANIZATION)
    }
    return SetupValues(found[API_KEY] or "", found[BASE_URL], found[ORGANIZATION])


def check_value(field: SetupField, value: str, name: str) -> str:
    if "{{" in value:
        raise make_invalid_value_error(
            f"`{field.name}` is the value itself, not a reference to one.", name
        )
    # The pattern of a secret holds at the integration's own address only, so that it is checked
    # with the address.
    if value and not field.sensitive and not re.search(field.pattern, value):
        raise make_invalid_value_error(f"`{field.name}` must match {field.pattern}.", name)
    return value


def describe_field(field: SetupField) -> str:
    parts = [field.description, f"It looks like {field.sample_format}." * bool(field.sample_format)]
    parts.append(f"See {field.about_url}." if field.about_url else "")
    return " ".join(filter(None, parts)) or f"it must match {field.pattern}."


def make_invalid_value_error(message: str, name: str) -> InvalidInputError:
    error = InvalidInputError(message, param=FIELD.format(name=name[:64]))
    error.recovery = RECOVERY
    return error


def make_unknown(known: Sequence[str]) -> UnknownIntegrationError:
    error = UnknownIntegrationError(
        f"There is no integration of this name; there are: {', '.join(known)}.", param="service"
    )
    error.recovery = "Use one of these names. `list_integrations` describes them."
    return error
