// A step under the pointer is lit in all views; a bar or box that is chosen opens its step.
(() => {
  const each = (selector, how) => document.querySelectorAll(selector).forEach(how);
  const light = (step, on) => {
    each('[data-step="' + step + '"]:not(details)', (one) => one.classList.toggle("lit", on));
    each('[data-from="' + step + '"],[data-to="' + step + '"]', (one) => one.classList.toggle("lit", on));
  };
  const open = (step) => {
    const row = document.getElementById("step-" + step);
    row.open = true;
    row.scrollIntoView({ block: "center", behavior: "smooth" });
  };
  each("[data-step]", (one) => {
    const step = one.dataset.step;
    one.addEventListener("mouseenter", () => light(step, true));
    one.addEventListener("mouseleave", () => light(step, false));
    if (one.matches(".bar,.step")) {
      one.addEventListener("click", (event) => {
        event.preventDefault();
        open(step);
      });
    }
  });
})();
