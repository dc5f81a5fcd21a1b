// Plays queued PCM. Starts once a little is buffered, and again after running dry, so that network
// jitter shorter than the buffer is not heard.
class PcmPlayer extends AudioWorkletProcessor {
  constructor() {
    super();
    this.queue = [];
    this.offset = 0;
    this.buffered = 0;
    this.playing = false;
    this.ended = false;
    this.prebuffer = Math.round(sampleRate * 0.04);
    this.port.onmessage = ({ data }) => {
      if (data === "end") this.ended = true;
      else if (data === "clear") {
        if (this.playing) this.port.postMessage("finished");
        this.queue = []; this.offset = this.buffered = 0; this.playing = this.ended = false;
      }
      else { this.queue.push(data); this.buffered += data.length; }
    };
  }

  process(_inputs, [[out]]) {
    if (!this.playing && (this.buffered >= this.prebuffer || (this.ended && this.buffered))) {
      this.playing = true;
      this.port.postMessage("playing");
    }
    let written = 0;
    while (this.playing && written < out.length && this.queue.length) {
      const head = this.queue[0];
      const count = Math.min(out.length - written, head.length - this.offset);
      out.set(head.subarray(this.offset, this.offset + count), written);
      written += count;
      this.offset += count;
      this.buffered -= count;
      if (this.offset === head.length) { this.queue.shift(); this.offset = 0; }
    }
    if (this.playing && !this.queue.length) {
      this.playing = false;
      this.port.postMessage(this.ended ? "finished" : "underrun");
      if (this.ended) this.ended = false;
    }
    return true;
  }
}
registerProcessor("pcm-player", PcmPlayer);
