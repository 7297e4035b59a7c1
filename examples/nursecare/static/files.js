// The ways in which files come: chosen, pasted, dropped. `receive` hands them to `take` while `ready()`.
export function receive(root, input, ready, take) {
  input.onchange = () => {
    const files = [...input.files];
    input.value = ""; // so that the same one can be chosen again
    take(files);
  };

  document.addEventListener("paste", (event) => {
    const { files, types } = event.clipboardData;
    if (!ready() || !files.length || types.includes("text/plain")) return; // office programs put a picture beside a text
    event.preventDefault();
    take([...files]);
  });

  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault(); // a file that is dropped beside the chat would be opened in the page's place
      const here = ready() && root.contains(event.target);
      event.dataTransfer.dropEffect = here ? "copy" : "none";
      root.classList.toggle("dropping", here && kind !== "dragleave" && kind !== "drop");
      if (here && kind === "drop") take([...event.dataTransfer.files]);
    });
  }
}
