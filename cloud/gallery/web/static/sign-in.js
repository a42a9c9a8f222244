// Signs in with the password, and then opens the page that was asked for.

const card = document.querySelector("[data-destination]");
const form = document.getElementById("form");
const password = document.getElementById("password");
const submit = document.getElementById("submit");
const message = document.getElementById("message");

function open() {
  const destination = new URL(card.dataset.destination, location.origin);
  location.replace(destination.origin === location.origin ? destination.href : "/");
}

// After a click on a link in another program, the browser sends the cookie only from here on.
async function openIfSignedIn() {
  const answer = await fetch("/api/session", { cache: "no-store" }).catch(() => null);
  if (answer?.ok && (await answer.json()).user !== null) open();
}

async function signIn() {
  const answer = await fetch("/api/sign-in", {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-Gallery": "1" },
    body: JSON.stringify({ password: password.value }),
  }).catch(() => null);
  if (answer?.ok) return open();
  const content = await answer?.json().catch(() => null);
  tell(sentence(content?.error ?? "the gallery does not answer"));
  password.setAttribute("aria-invalid", String(answer?.status === 401));
  password.select();
}

function sentence(text) {
  return `${text[0].toUpperCase()}${text.slice(1)}.`;
}

function tell(text) {
  message.textContent = text;
}

form?.addEventListener("submit", async (event) => {
  event.preventDefault();
  tell("");
  submit.disabled = true;
  await signIn();
  submit.disabled = false;
});

openIfSignedIn();
