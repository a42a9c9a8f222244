"""Runs Home Assistant, and prints its entities as a line of JSON each time they change.

    PYTHON watch.py FOLDER HOST PORT USER PASSWORD

PYTHON has the package ``homeassistant``, which needs a newer Python than Facewire. This imports nothing of Facewire.
FOLDER is for Home Assistant's configuration. Home Assistant is connected to the broker as a user does it: by its form.
"""

import asyncio
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

SECONDS_BETWEEN_LOOKS = 0.2


async def watch(folder: Path, host: str, port: int, user: str, password: str) -> None:
    """Start Home Assistant, connect it, and print its entities until the process is ended."""
    from homeassistant import bootstrap, const, runner  # type: ignore[import-not-found]
    from homeassistant.helpers import device_registry  # type: ignore[import-not-found]

    # Only what MQTT needs is set up. The others would install two dozen packages, and a compiler builds one of them.
    bootstrap.DEFAULT_INTEGRATIONS.clear()
    bootstrap.CRITICAL_INTEGRATIONS.clear()
    (folder / "configuration.yaml").write_text("homeassistant: {}\n")
    hass = await bootstrap.async_setup_hass(runner.RuntimeConfig(config_dir=str(folder), skip_pip=False))
    flow = await hass.config_entries.flow.async_init("mqtt", context={"source": "user"})
    if flow["type"] == "menu":
        flow = await hass.config_entries.flow.async_configure(flow["flow_id"], {"next_step_id": "broker"})
    more = {"set_client_cert": False, "set_ca_cert": "off", "transport": "tcp"}
    fields = {"broker": host, "port": port, "username": user, "password": password, "other_settings": more}
    flow = await hass.config_entries.flow.async_configure(flow["flow_id"], fields)
    say({"version": const.__version__, "flow": str(flow["type"]), "errors": flow.get("errors")})
    before: dict[str, Any] | None = None
    while True:
        found = {
            "devices": sorted(str(device.name) for device in device_registry.async_get(hass).devices),
            "entities": {state.entity_id: await described(hass, state) for state in hass.states.async_all()},
        }
        if found != before:
            say(found)
            before = found
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)


async def described(hass: Any, state: Any) -> dict[str, Any]:
    """Return the state of an entity, its unit and class, and the digest of the image that it shows."""
    from homeassistant.components import image  # type: ignore[import-not-found]

    kept = ("friendly_name", "unit_of_measurement", "device_class", "state_class")
    found = {"state": state.state, **{key: state.attributes[key] for key in kept if key in state.attributes}}
    if state.domain == "image":
        entity = hass.data[image.DATA_COMPONENT].get_entity(state.entity_id)
        shown = await entity.async_image() if entity else None
        found["sha256"] = hashlib.sha256(shown).hexdigest() if shown else None
    return found


def say(fields: dict[str, Any]) -> None:
    """Print one line of JSON."""
    print(json.dumps(fields), flush=True)


if __name__ == "__main__":
    asyncio.run(watch(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5]))
