// The page: one WebSocket an utterance, raw PCM into an AudioWorklet.
const $ = (id) => document.getElementById(id);
const ms = (s) => (s == null ? "–" : `${Math.round(s * 1000)} ms`);

let audio = null;       // { context, player } at the stream's sample rate
let session = null;     // the utterance under way
let samples = [];       // Float32Array chunks of the last utterance
let rate = 24000;

function say(text, bad = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", bad);
}

async function openAudio(sampleRate) {
  if (audio && audio.context.sampleRate === sampleRate) {
    await audio.context.resume();
    audio.player.port.postMessage("clear");
    return audio;
  }
  if (audio) await audio.context.close();
  const context = new AudioContext({ sampleRate, latencyHint: "interactive" });
  await context.audioWorklet.addModule("/studio/worklet.js");
  const player = new AudioWorkletNode(context, "pcm-player", { numberOfInputs: 0, outputChannelCount: [1] });
  player.connect(context.destination);
  await context.resume();
  audio = { context, player };
  return audio;
}

function toFloat(buffer) {
  const ints = new Int16Array(buffer);
  const floats = new Float32Array(ints.length);
  for (let i = 0; i < ints.length; i++) floats[i] = ints[i] / 32768;
  return floats;
}

function draw() {
  const canvas = $("wave");
  const width = (canvas.width = canvas.clientWidth * devicePixelRatio);
  const height = (canvas.height = 96 * devicePixelRatio);
  const context = canvas.getContext("2d");
  const total = samples.reduce((sum, part) => sum + part.length, 0);
  if (!total) return;
  context.fillStyle = getComputedStyle(document.body).getPropertyValue("color");
  const perPixel = Math.max(1, total / width);
  let index = 0, part = 0, at = 0;
  for (let x = 0; x < width; x++) {
    let peak = 0;
    while (index < (x + 1) * perPixel && part < samples.length) {
      peak = Math.max(peak, Math.abs(samples[part][at]));
      index++;
      if (++at === samples[part].length) { part++; at = 0; }
    }
    const bar = Math.max(1, peak * height);
    context.fillRect(x, (height - bar) / 2, 1, bar);
  }
}

function buttons(active) {
  $("stop").disabled = !active;
  $("download").disabled = active || !samples.length;
}

function url() {
  const base = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/v1/stream`;
  // Browsers cannot set headers on a WebSocket.
  return $("key").value ? `${base}?api_key=${encodeURIComponent($("key").value)}` : base;
}

class Session {
  constructor() {
    samples = [];
    this.socket = new WebSocket(url());
    this.socket.binaryType = "arraybuffer";
    this.pending = [];
    this.open = false;
    this.firstText = null;
    this.done = false;
    this.ready = Promise.resolve();
    this.socket.onopen = () => {
      this.open = true;
      const start = { type: "start", cfg_scale: Number($("cfg").value) || 2.0 };
      if ($("seed").value) start.seed = Number($("seed").value);
      if ($("voice").value) start.voice = $("voice").value;
      this.socket.send(JSON.stringify(start));
      for (const message of this.pending) this.socket.send(message);
    };
    this.socket.onmessage = ({ data }) => this.receive(data);
    this.socket.onclose = ({ code, reason }) => {
      if (!this.done) say(reason || `The connection closed (${code}). Is the server running, is the key right?`, true);
      this.finish();
    };
    for (const id of ["ttfa", "heard", "rtf", "duration", "reason"]) $(id).textContent = "–";
    say("Connecting…");
    buttons(true);
  }

  send(message) {
    const text = JSON.stringify(message);
    if (message.type === "text" && this.firstText == null) this.firstText = performance.now();
    if (this.open) this.socket.send(text); else this.pending.push(text);
  }

  receive(data) {
    if (data instanceof ArrayBuffer) {
      const part = toFloat(data);
      if (!samples.length) {
        $("heard").textContent = `${Math.round(performance.now() - this.firstText)} ms`;
        say("Speaking…");
      }
      samples.push(part);
      this.ready.then(() => audio?.player.port.postMessage(part.slice()));
      draw();
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "started") {
      rate = message.sample_rate;
      this.ready = openAudio(rate).catch((error) => say(`No sound: ${error.message}`, true));
      say(message.by_sentence ? "Speaking sentence by sentence…" : "Waiting for the first words…");
    } else if (message.type === "starved") {
      say("Waiting for more text…");
    } else if (message.type === "error") {
      this.done = true;
      const error = message.error ?? message;
      say(error.param ? `${error.message} (${error.param})` : error.message, true);
    } else if (message.type === "done") {
      this.done = true;
      $("ttfa").textContent = ms(message.ttfa_s);
      $("rtf").textContent = message.rtf == null ? "–" : message.rtf.toFixed(3);
      $("duration").textContent = `${message.duration_s.toFixed(2)} s`;
      $("reason").textContent = message.finish_reason;
      this.ready.then(() => audio?.player.port.postMessage("end"));
      say(message.finish_reason === "length" ? "Cut at the length limit: not complete." : "Done.", message.finish_reason === "length");
      this.socket.close(1000);
    }
  }

  cancel() {
    if (this.open) this.socket.send(JSON.stringify({ type: "cancel" }));
    else this.socket.close();
    audio?.player.port.postMessage("clear");
    say("Stopped.");
  }

  finish() {
    if (session === this) session = null;
    buttons(false);
  }
}

function speak() {
  const text = $("text").value;
  if (session && $("live").checked) return endLive();
  if (!text.trim()) return say("There is nothing to say.", true);
  if (session) session.cancel();
  session = new Session();
  session.send({ type: "text", text });
  session.send({ type: "end" });
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

function download() {
  const total = samples.reduce((sum, part) => sum + part.length, 0);
  const view = new DataView(new ArrayBuffer(44 + total * 2));
  const ascii = (at, text) => [...text].forEach((c, i) => view.setUint8(at + i, c.charCodeAt(0)));
  ascii(0, "RIFF"); view.setUint32(4, 36 + total * 2, true); ascii(8, "WAVEfmt ");
  view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, rate * 2, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true); ascii(36, "data"); view.setUint32(40, total * 2, true);
  let at = 44;
  for (const part of samples) for (const x of part) { view.setInt16(at, Math.max(-1, Math.min(1, x)) * 32767, true); at += 2; }
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([view], { type: "audio/wav" }));
  link.download = "speech.wav";
  link.click();
  URL.revokeObjectURL(link.href);
}

$("speak").onclick = speak;
$("stop").onclick = () => session?.cancel();
$("download").onclick = download;
$("text").oninput = typed;
$("live").onchange = () => { spokenUpTo = $("text").value.length; if ($("live").checked) { $("text").value = ""; spokenUpTo = 0; $("text").focus(); } };
document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); speak(); }
  if (event.key === "Escape") session?.cancel();
});

async function listVoices() {
  const headers = $("key").value ? { Authorization: `Bearer ${$("key").value}` } : {};
  const { voices } = await (await fetch("/v1/audio/voices", { headers })).json();
  // OpenAI's names stand for voices that are listed under their own.
  $("voice").replaceChildren(...voices.filter((voice) => !voice.alias_of).map((voice) => {
    const option = new Option(voice.name, voice.id);
    option.title = voice.description ?? "";
    return option;
  }));
}

$("key").onchange = () => listVoices().catch(() => {});
listVoices().catch(() => {});

fetch("/v1/models").then((response) => response.json()).then(({ data }) => {
  $("model").textContent = data.map((model) => model.id).join(", ");
}).catch(() => { $("model").textContent = "the server does not answer"; });
