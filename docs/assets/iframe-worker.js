// Search without a server: browsers refuse Web Workers on file:// pages, so there the search runs in a hidden iframe.
// The plugin "offline" of Material for MkDocs would load such a script from another host unless one by this name is configured.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      document.body.append(this.frame);
      const inside = this.frame.contentWindow;
      window.addEventListener("message", (event) => {
        if (event.source === inside) this.dispatchEvent(new MessageEvent("message", { data: event.data }));
      });
      inside.document.open();
      inside.document.write(
        `<script>postMessage = (message) => parent.postMessage(message, "*")<\/script><script src="${url}"><\/script>`,
      );
      inside.document.close();
      this.loaded = new Promise((resolve) => (inside.onload = resolve)); // open() removes listeners
    }

    postMessage(data) {
      this.loaded.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };
}
