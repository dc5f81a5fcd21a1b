// The page: one WebSocket an utterance, raw PCM into an AudioWorklet.
import { $, ms, request, save, say, words } from "./page.js";
import { draw, last, openAudio, playAgain, post, toFloat, wav, whenPlaying } from "./sound.js";
import { listVoices } from "./voices.js";

let session = null;     // the utterance under way
let spoken = null;      // what the last whole utterance was asked for with, to have it again in another format

let playing = false;    // sound comes out: speech is received faster than it is heard

function buttons(active) {
  $("stop").disabled = !active && !playing;
  $("download").disabled = $("again").disabled = active || !last.samples.length;
}

function url() {
  const base = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream`;
  // Browsers cannot set headers on a WebSocket.
  return $("key").value ? `${base}?api_key=${encodeURIComponent($("key").value)}` : base;
}

// A refused handshake tells a browser nothing: the same question over HTTP says why.
async function whyClosed(code, told) {
  if (told) return told;
  try {
    await request("/health/ready");
    await request("/v1/models");
    return `The connection broke off (${code}). What was heard is not complete.`;
  } catch (error) {
    return error.message;
  }
}

class Session {
  constructor() {
    last.samples = [];
    spoken = null;
    this.socket = new WebSocket(url());
    this.socket.binaryType = "arraybuffer";
    this.pending = [];
    this.open = false;
    this.firstText = null;
    this.text = "";
    this.done = false;
    this.ready = Promise.resolve();
    this.start = {
      type: "start", speed: Number($("speed").value), normalize: $("normalize").checked,
    };
    if ($("cfg").value) this.start.cfg_scale = Number($("cfg").value);
    if ($("seed").value) this.start.seed = Number($("seed").value);
    if ($("voice").value) this.start.voice = $("voice").value;
    this.socket.onopen = () => {
      this.open = true;
      this.socket.send(JSON.stringify(this.start));
      for (const message of this.pending) this.socket.send(message);
    };
    this.socket.onmessage = ({ data }) => this.receive(data);
    this.socket.onclose = async ({ code, reason }) => {
      this.finish();
      if (!this.done) say(await whyClosed(code, reason), true);
    };
    for (const id of ["ttfa", "heard", "rtf", "duration", "reason"]) $(id).textContent = "–";
    say("Connecting…");
    buttons(true);
  }

  send(message) {
    const text = JSON.stringify(message);
    if (message.type === "text") {
      this.firstText ??= performance.now();
      this.text += message.text;
    }
    if (this.open) this.socket.send(text); else this.pending.push(text);
  }

  receive(data) {
    if (data instanceof ArrayBuffer) {
      const part = toFloat(data);
      if (!last.samples.length) {
        $("heard").textContent = `${Math.round(performance.now() - this.firstText)} ms`;
        say("Speaking…");
      }
      last.samples.push(part);
      this.ready.then(() => post(part.slice()));
      draw();
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "started") {
      last.rate = message.sample_rate;
      Object.assign(this.start, { model: message.model, seed: message.seed });
      this.ready = openAudio(last.rate).catch((error) => say(`No sound: ${error.message}`, true));
      say(message.by_sentence ? "Speaking sentence by sentence…" : "Waiting for the first words…");
    } else if (message.type === "warning") {
      say(`“${message.sample}”: ${message.message}`, true);
    } else if (message.type === "starved") {
      say("Waiting for more text…");
    } else if (message.type === "error") {
      this.done = true;
      const { message: told, param, code } = message.error ?? message;
      say(code === "over_capacity" ? "Every stream of the server is taken. Try again in a moment." : words(told, param), true);
    } else if (message.type === "done") {
      this.done = true;
      $("ttfa").textContent = ms(message.ttfa_s);
      $("rtf").textContent = message.rtf == null ? "–" : message.rtf.toFixed(3);
      $("duration").textContent = `${message.duration_s.toFixed(2)} s`;
      $("reason").textContent = message.finish_reason;
      this.ready.then(() => post("end"));
      const cut = message.finish_reason === "length";
      if (message.finish_reason === "stop") spoken = { ...this.start, input: this.text };
      say(cut ? "Cut at the length limit: not complete." : message.finish_reason === "cancelled" ? "Stopped." : "Done.", cut);
      this.socket.close(1000);
    }
  }

  cancel() {
    if (this.open) this.socket.send(JSON.stringify({ type: "cancel" }));
    else { this.done = true; this.socket.close(); }
    post("clear");
    say("Stopped.");
  }

  finish() {
    if (session === this) session = null;
    if (!session) buttons(false);
  }
}

function speak() {
  const text = $("text").value;
  if (session && $("live").checked) return endLive();
  if (!text.trim()) { $("text").focus(); return say("There is nothing to say: write something first.", true); }
  if (session) session.cancel();
  session = new Session();
  session.send({ type: "text", text });
  session.send({ type: "end" });
}

function stop() {
  if (session) return session.cancel();
  if (!playing) return;
  post("clear");
  say("Stopped.");
}

let spokenUpTo = 0;

// Speak while typing: whole words go out as soon as the space after them is typed.
function typed() {
  if (!$("live").checked) return;
  const text = $("text").value;
  if (!session) { session = new Session(); spokenUpTo = 0; }
  const end = text.lastIndexOf(" ") + 1;
  if (end > spokenUpTo) {
    session.send({ type: "text", text: text.slice(spokenUpTo, end) });
    spokenUpTo = end;
  }
}

function endLive() {
  const rest = $("text").value.slice(spokenUpTo);
  if (rest) session.send({ type: "text", text: rest });
  session.send({ type: "end" });
  spokenUpTo = $("text").value.length;
}

// The same text, voice and seed are the same speech: other formats are asked for once more.
async function download() {
  const format = $("format").value;
  if (format === "wav") return save(wav(), "speech.wav");
  if (!spoken) return say("Only what was spoken to its end can be had in this format.", true);
  const { type, ...body } = spoken;
  say(`Making ${format}…`);
  try {
    const answer = await request("/v1/audio/speech", {
      method: "POST", headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ ...body, response_format: format }),
    });
    save(await answer.blob(), `speech.${format === "opus" ? "ogg" : format}`);
    say("Saved.");
  } catch (error) {
    say(error.message, true);
  }
}

whenPlaying((now) => { playing = now; buttons(session !== null); });
$("speak").onclick = speak;
$("stop").onclick = stop;
$("again").onclick = () => playAgain().catch((error) => say(`No sound: ${error.message}`, true));
$("download").onclick = download;
$("speed").oninput = () => { $("pace").value = Number($("speed").value).toFixed(2).replace(/0$/, ""); };
$("text").oninput = typed;
$("live").onchange = () => {
  spokenUpTo = $("text").value.length;
  if ($("live").checked) { $("text").value = ""; spokenUpTo = 0; $("text").focus(); }
};
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); speak(); }
  if (event.key === "Escape") stop();
});

async function load() {
  try {
    const { data } = await (await request("/v1/models")).json();
    $("model").textContent = data.map((model) => model.id).join(", ");
    await listVoices();
    say("Ready.");
  } catch (error) {
    $("model").textContent = "";
    say(error.message, true);
    if (error.message.includes("API key")) { $("settings").open = true; $("key").focus(); }
  }
}

$("key").onchange = load;
load();
