// The address of the page: its filters, and the face that is open. A link shows the same.

const FILTERS = ["device", "camera", "day", "from", "to", "confidence", "quality"];
const ALL = [...FILTERS, "single", "face"];

/** The parameters of the address that the page knows. */
export function read() {
  const query = new URLSearchParams(location.search);
  return Object.fromEntries(ALL.map((name) => [name, query.get(name)]).filter(([, value]) => value));
}

/** Write the parameters: as a step of the history, or in place of the present one. */
export function write(view, { replace = false, state = null } = {}) {
  const query = String(new URLSearchParams(ALL.filter((name) => view[name]).map((name) => [name, view[name]])));
  const url = (query ? `/?${query}` : "/").replaceAll("%2F", "/").replaceAll("%3A", ":");
  history[replace ? "replaceState" : "pushState"](state, "", url);
}

/** Only the filters, as the server wants them. */
export function filtersOf(view) {
  return Object.fromEntries(FILTERS.filter((name) => view[name]).map((name) => [name, view[name]]));
}

export const countFilters = (view) => Object.keys(filtersOf(view)).length;

export function onBack(listener) {
  addEventListener("popstate", listener);
}
