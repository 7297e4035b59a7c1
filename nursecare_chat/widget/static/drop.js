/** Files that are dragged onto an element: shown while they are over it, taken when they are dropped. */

/** @param {HTMLElement} place @param {() => boolean} ready @param {(files: File[]) => void} take */
export function receiveFiles(place, ready, take) {
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    place.addEventListener(kind, (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault(); // or the file is opened in the page's place
      const here = ready();
      const leaves = kind === "dragleave" && !place.contains(event.relatedTarget);
      event.dataTransfer.dropEffect = here ? "copy" : "none";
      if (kind !== "dragleave" || leaves) place.classList.toggle("dropping", here && kind !== "drop" && !leaves);
      if (here && kind === "drop") take([...event.dataTransfer.files]);
    });
  }
}
