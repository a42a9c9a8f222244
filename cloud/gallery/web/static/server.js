// Requests to the gallery. Each failure becomes an error with words for the user.

export class Failure extends Error {
  constructor(words, status = 0) {
    super(words);
    this.status = status;
  }
}

export const AWAY = "The gallery does not answer.";

export async function load(path, query = {}, signal = undefined) {
  const text = new URLSearchParams(query).toString();
  return answer(text ? `${path}?${text}` : path, { signal });
}

export async function send(path, body) {
  return answer(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Gallery": "1" },
    body: JSON.stringify(body),
  });
}

async function answer(url, options) {
  let response;
  try {
    response = await fetch(url, { credentials: "same-origin", cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(AWAY);
  }
  if (response.status === 401) {
    signIn();
    throw new Failure("Your sign-in has ended.", 401);
  }
  if (response.status === 204) return null;
  const content = await response.json().catch(() => null);
  if (!response.ok) throw new Failure(content?.error ?? `The gallery answered ${response.status}.`, response.status);
  if (content === null) throw new Failure(AWAY);
  return content;
}

export function signIn() {
  location.assign(`/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`);
}

export const pathOf = (face) => `${face.device}/${face.camera}/${face.id}`;
export const pictureOf = (face) => `/faces/${pathOf(face)}.jpg`;
