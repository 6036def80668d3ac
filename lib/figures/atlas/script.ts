/**
 * The script of the atlas, for browsers: the table of the first page, the controls and arrow keys of the others. Plain
 * script, no module and no fetch, since both are forbidden to pages opened from disk.
 *
 * @module
 */

/** Text of `atlas.js`. */
export const atlasJs: string = /* js */ `"use strict";
(function () {
  var byId = function (id) { return document.getElementById(id); };
  if (byId("rows") && window.atlas) table(window.atlas);
  if (document.querySelector(".grid")) latentPage();

  // Index page: rows are [latent, slots, density, mean, maximum, images, label, purity].
  function table(atlas) {
    var PER_PAGE = 50;
    var state = { column: 0, descending: false, text: "", page: 0 };
    var shown = [];

    function key(row, column) {
      return column === 6 ? (row[6] < 0 ? "\\uffff" : atlas.labels[row[6]]) : row[column];
    }
    function choose() {
      var text = state.text.trim().toLowerCase();
      var number = /^\\d+$/.test(text);
      shown = atlas.rows.filter(function (row) {
        if (text === "") return true;
        if (number && String(row[0]).indexOf(String(Number(text))) === 0) return true;
        return row[6] >= 0 && atlas.labels[row[6]].toLowerCase().indexOf(text) >= 0;
      });
      var sign = state.descending ? -1 : 1;
      shown.sort(function (a, b) {
        // An exact number comes before the numbers that only start with it.
        if (number && (a[0] === Number(text)) !== (b[0] === Number(text))) return a[0] === Number(text) ? -1 : 1;
        var x = key(a, state.column), y = key(b, state.column);
        return (x < y ? -sign : x > y ? sign : a[0] - b[0]);
      });
      state.page = Math.max(0, Math.min(state.page, Math.ceil(shown.length / PER_PAGE) - 1));
    }
    function cell(text, className) {
      var td = document.createElement("td");
      td.className = className;
      td.textContent = text;
      return td;
    }
    function value(v) {
      if (v === 0) return "0";
      if (Math.abs(v) < 0.001) return v.toExponential(1);
      return v < 999.5 ? v.toPrecision(3) : Math.round(v).toLocaleString("en-US");
    }
    function share(v) {
      return (100 * v).toPrecision(3) + " %";
    }
    function thumb(slot) {
      var perSide = atlas.thumbsPerSide, inSheet = slot % (perSide * perSide);
      var span = document.createElement("span");
      span.className = "thumb";
      var sheet = String(Math.floor(slot / (perSide * perSide)));
      while (sheet.length < 4) sheet = "0" + sheet;
      span.style.backgroundImage = "url(sheets/thumbs-" + sheet + ".webp)";
      span.style.backgroundPosition = 100 * (inSheet % perSide) / (perSide - 1) + "% " +
        100 * Math.floor(inSheet / perSide) / (perSide - 1) + "%";
      return span;
    }
    function line(row) {
      var tr = document.createElement("tr");
      var name = String(row[0]);
      var file = name;
      while (file.length < atlas.pageNameLetters) file = "0" + file;
      var link = document.createElement("a");
      link.href = "latents/" + file + ".html";
      link.textContent = name;
      var first = cell("", "number");
      first.append(link);
      var images = cell("", "images");
      var picture = document.createElement("a");
      picture.href = link.href;
      picture.tabIndex = -1;
      picture.setAttribute("aria-label", "Latent " + name);
      row[1].forEach(function (slot) { picture.append(thumb(slot)); });
      images.append(picture);
      var label = row[6] < 0 ? "" : atlas.labels[row[6]];
      var labelCell = cell(label, "label");
      labelCell.title = label;
      tr.append(first, images, cell(share(row[2]), "number"), cell(value(row[3]), "number"),
        cell(value(row[4]), "number"), cell(row[5].toLocaleString("en-US"), "number"), labelCell,
        cell(row[7] < 0 ? "" : Math.round(100 * row[7]) + " %", "number"));
      return tr;
    }
    function draw() {
      choose();
      var from = state.page * PER_PAGE, to = Math.min(shown.length, from + PER_PAGE);
      byId("rows").replaceChildren.apply(byId("rows"), shown.slice(from, to).map(line));
      var text = state.text.trim();
      var missing = shown.length === 0 && /^\\d+$/.test(text) && Number(text) < atlas.dSae;
      byId("count").textContent = missing
        ? "Latent " + Number(text) + " has no page: it was never active, or was left out"
        : shown.length.toLocaleString("en-US") + (shown.length === 1 ? " latent" : " latents");
      byId("place").textContent = shown.length === 0 ? "" : (from + 1) + "–" + to;
      byId("back").disabled = from === 0;
      byId("forward").disabled = to >= shown.length;
      document.querySelectorAll("th button").forEach(function (button) {
        var th = button.parentElement;
        if (Number(button.dataset.column) !== state.column) th.removeAttribute("aria-sort");
        else th.setAttribute("aria-sort", state.descending ? "descending" : "ascending");
      });
    }
    function change(values) {
      Object.assign(state, values);
      draw();
      // Kept in the address, so that going back from a latent finds the table as it was left.
      var words = new URLSearchParams();
      Object.keys(state).forEach(function (name) { words.set(name, String(state[name])); });
      try { history.replaceState(null, "", "#" + words); } catch (error) { /* Some browsers forbid it on disk. */ }
    }

    var saved = new URLSearchParams(location.hash.slice(1));
    if (saved.has("column")) {
      state.column = [0, 2, 3, 4, 5, 6, 7].indexOf(Number(saved.get("column"))) < 0 ? 0 : Number(saved.get("column"));
      state.descending = saved.get("descending") === "true";
      state.text = saved.get("text") || "";
      state.page = Math.floor(Number(saved.get("page"))) || 0;
    }
    byId("search").value = state.text;
    byId("search").addEventListener("input", function () { change({ text: this.value, page: 0 }); });
    byId("back").addEventListener("click", function () { change({ page: state.page - 1 }); });
    byId("forward").addEventListener("click", function () { change({ page: state.page + 1 }); });
    document.querySelectorAll("th button").forEach(function (button) {
      button.addEventListener("click", function () {
        var column = Number(button.dataset.column);
        // Numbers are first sorted from the largest: that is what one looks for.
        var descending = column === state.column ? !state.descending : column !== 0 && column !== 6;
        change({ column: column, descending: descending, page: 0 });
      });
    });
    draw();
  }

  function latentPage() {
    var main = document.querySelector("main");
    var saved = {};
    try { saved = JSON.parse(localStorage.getItem("atlas") || "{}"); } catch (error) { /* No storage on disk. */ }
    function apply() {
      main.classList.toggle("no-heat", !byId("heat").checked);
      main.classList.toggle("smooth", byId("smooth").checked);
      main.classList.toggle("no-peak", !byId("peak").checked);
      main.style.setProperty("--heat", String(byId("opacity").value / 100));
      var now = { heat: byId("heat").checked, smooth: byId("smooth").checked, peak: byId("peak").checked,
        opacity: byId("opacity").value };
      try { localStorage.setItem("atlas", JSON.stringify(now)); } catch (error) { /* No storage on disk. */ }
    }
    if (byId("heat")) {
      ["heat", "smooth", "peak"].forEach(function (id) {
        if (typeof saved[id] === "boolean") byId(id).checked = saved[id];
        byId(id).addEventListener("change", apply);
      });
      if (saved.opacity !== undefined) byId("opacity").value = saved.opacity;
      byId("opacity").addEventListener("input", apply);
      apply();
    }
    document.addEventListener("keydown", function (event) {
      if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
      if (event.target.matches && event.target.matches("input[type=range]")) return;
      var rel = event.key === "ArrowLeft" ? "prev" : event.key === "ArrowRight" ? "next" : "";
      var link = rel && document.querySelector("a[rel=" + rel + "]");
      if (link) link.click();
    });
  }
})();
`;
