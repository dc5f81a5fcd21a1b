// The menu of voices, and the form that makes one of a recording.
import { $, request, say } from "./page.js";

function options(label, voices) {
  const group = document.createElement("optgroup");
  group.label = label;
  group.append(...voices.map((voice) => {
    const option = new Option(voice.name, voice.id);
    option.title = voice.description ?? "";
    return option;
  }));
  return group;
}

function row(voice) {
  const item = document.createElement("li");
  const remove = document.createElement("button");
  remove.textContent = "Delete";
  remove.setAttribute("aria-label", `Delete ${voice.name}`);
  remove.onclick = async () => {
    if (!confirm(`Delete the voice "${voice.name}" and its recording?`)) return;
    try {
      await request(`/v1/audio/voices/${voice.id}`, { method: "DELETE" });
      say(`${voice.name} is deleted.`, false, "voice-status");
      await listVoices();
    } catch (error) {
      say(error.message, true, "voice-status");
    }
  };
  item.append(`${voice.name}, since ${new Date(voice.created_at * 1000).toLocaleDateString()} `, remove);
  return item;
}

export async function listVoices(chosen = $("voice").value) {
  const { voices } = await (await request("/v1/audio/voices")).json();
  // OpenAI's names stand for voices that are listed under their own.
  const own = voices.filter((voice) => !voice.alias_of);
  const cloned = own.filter((voice) => voice.kind === "cloned");
  const builtIn = own.filter((voice) => voice.kind !== "cloned");
  $("voice").replaceChildren(options("Built in", builtIn), ...(cloned.length ? [options("Cloned", cloned)] : []));
  if (own.some((voice) => voice.id === chosen)) $("voice").value = chosen;
  $("cloned").replaceChildren(...cloned.map(row));
}

$("clone").onsubmit = async (event) => {
  event.preventDefault();
  const form = new FormData();
  form.append("audio_sample", $("sample").files[0]);
  form.append("name", $("name").value);
  form.append("ref_text", $("said").value);
  form.append("consent", `${$("who").value} has agreed (confirmed on the page, ${new Date().toISOString().slice(0, 10)})`);
  say("Learning the voice from the recording; this may take half a minute…", false, "voice-status");
  const button = $("clone").querySelector("button");
  button.disabled = true;
  try {
    const voice = await (await request("/v1/audio/voices", { method: "POST", body: form })).json();
    await listVoices(voice.id);
    $("clone").reset();
    say(`${voice.name} is ready, and chosen.`, false, "voice-status");
  } catch (error) {
    say(error.message, true, "voice-status");
  } finally {
    button.disabled = false;
  }
};
