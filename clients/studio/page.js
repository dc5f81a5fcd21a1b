// What every part of the page uses: elements, words for the user, requests with the key.
export const $ = (id) => document.getElementById(id);
export const ms = (s) => (s == null ? "–" : `${Math.round(s * 1000)} ms`);

export function say(text, bad = false, where = "status") {
  $(where).textContent = text;
  $(where).classList.toggle("error", bad);
}

// An error of the server: what it says, and which field it is about if it does not say so.
export const words = (message, param) => (param && !message.startsWith(param) ? `${message} (${param})` : message);

// What an answer of the server that is an error says, in words.
export async function reason(response) {
  if (response.status === 401) return "The server wants an API key: put the right one into Settings.";
  try {
    const { error } = await response.json();
    return words(error.message, error.param);
  } catch {
    return `The server answered ${response.status}.`;
  }
}

// Like fetch, with the key; throws an Error in words for everything that is not a success.
export async function request(path, options = {}) {
  const headers = { ...options.headers };
  if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
  const response = await fetch(path, { ...options, headers }).catch(() => {
    throw new Error("The server does not answer. Is it running?");
  });
  if (!response.ok) throw new Error(await reason(response));
  return response;
}

// Hand a file to the user.
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
