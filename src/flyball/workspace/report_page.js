"use strict";
(() => {
  const report = JSON.parse(document.getElementById("data").textContent);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const config = { displayModeBar: false, locale: "en" };
  let shown = report.shown;

  const isNarrow = () => window.innerWidth < 640;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  function layout(id, height, extra) {
    const axis = { gridcolor: css("--line"), linecolor: css("--line"), zeroline: false, tickfont: { size: isNarrow() ? 11 : 12 } };
    const { xaxis = {}, yaxis = {}, ...rest } = extra;
    return {
      height,
      width: document.getElementById(id).clientWidth,
      margin: { l: isNarrow() ? 40 : 56, r: isNarrow() ? 8 : 16, t: 12, b: 36 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "inherit", color: css("--ink"), size: 13 },
      hoverlabel: { bgcolor: css("--paper"), bordercolor: css("--line"), font: { color: css("--ink") } },
      dragmode: false,
      xaxis: { ...axis, range: [report.start, report.end], fixedrange: true, hoverformat: "%-d %b %Y", nticks: isNarrow() ? 5 : 12, ...xaxis },
      yaxis: { ...axis, fixedrange: true, ...yaxis },
      ...rest,
    };
  }

  /* A point stands for a period, so it is drawn in its middle: at its beginning, a fall would seem to come too early. */
  function middle(points, index) {
    const begin = Date.parse(points[index].at);
    const end = index + 1 < points.length ? Date.parse(points[index + 1].at) : Date.parse(report.end);
    return new Date((begin + end) / 2).toISOString();
  }

  function drawPerformance() {
    const traces = report.policies.map((policy) => ({
      type: "scatter", mode: "lines+markers", name: policy.name, connectgaps: false,
      x: policy.performance.map((_, index) => middle(policy.performance, index)),
      y: policy.performance.map((point) => point.value),
      customdata: policy.performance.map((point) => point.labels),
      line: { color: policy.color, width: policy.name === report.best ? 3 : 2 },
      marker: { color: policy.color, size: 6 },
      hovertemplate: `${policy.name}: %{y:.4~g}, %{customdata:,} labels<extra></extra>`,
    }));
    const events = report.policies.flatMap((policy) => marksOnLine(policy));
    const limit = report.limit === null ? [] : [{
      type: "line", xref: "paper", x0: 0, x1: 1, y0: report.limit, y1: report.limit, line: { color: css("--soft"), width: 1, dash: "dot" },
    }];
    const note = report.limit === null ? [] : [{
      xref: "paper", x: 0, y: report.limit, text: `alert ${report.better === "higher" ? "below" : "above"} ${report.limit}`,
      showarrow: false, xanchor: "left", yanchor: "bottom", font: { size: 11, color: css("--soft") },
    }];
    Plotly.react("performance-plot", [...traces, ...events], layout("performance-plot", isNarrow() ? 320 : 400, {
      yaxis: { title: isNarrow() ? undefined : { text: report.metric } },
      shapes: limit, annotations: note, hovermode: "closest",
      legend: { orientation: "h", y: 1, yanchor: "bottom", x: 0 }, margin: { l: isNarrow() ? 40 : 56, r: isNarrow() ? 8 : 16, t: 40, b: 36 },
    }), config);
  }

  /* Retrainings and rollbacks, set on the policy's own line where they happened. */
  function marksOnLine(policy) {
    const placed = policy.performance.map((point, index) => ({ at: middle(policy.performance, index), value: point.value }));
    const known = placed.filter((point) => point.value !== null);
    const heightAt = (at) => {
      const time = Date.parse(at);
      const after = known.findIndex((point) => Date.parse(point.at) > time);
      if (after === 0) return known[0].value;
      if (after < 0) return known.length ? known[known.length - 1].value : null;
      const [low, high] = [known[after - 1], known[after]];
      const share = (time - Date.parse(low.at)) / (Date.parse(high.at) - Date.parse(low.at));
      return low.value + share * (high.value - low.value);
    };
    return ["promoted", "rollback"].map((kind) => {
      const marks = policy.marks.filter((mark) => mark.kind === kind);
      return {
        type: "scatter", mode: "markers", showlegend: false, name: kind,
        x: marks.map((mark) => mark.at), y: marks.map((mark) => heightAt(mark.at)),
        text: marks.map((mark) => wrap(`${policy.name}: ${mark.text}`)),
        marker: { symbol: report.kinds[kind].symbol, size: kind === "rollback" ? 13 : 11, color: kind === "rollback" ? report.kinds[kind].color : policy.color, line: { color: css("--paper"), width: 1.5 } },
        hovertemplate: "%{x|%-d %b %Y}<br>%{text}<extra></extra>",
      };
    });
  }

  function drawTimeline(policy) {
    const kinds = Object.keys(report.kinds).filter((kind) => policy.marks.some((mark) => mark.kind === kind)).reverse();
    const row = new Map(kinds.map((kind, index) => [kind, index]));
    const traces = [];
    for (const kind of kinds) {
      const { color, symbol } = report.kinds[kind];
      const marks = policy.marks.filter((mark) => mark.kind === kind);
      const spans = marks.filter((mark) => mark.ends_at);
      traces.push({
        type: "scatter", mode: "lines", hoverinfo: "skip", line: { color, width: 7 }, opacity: 0.35,
        x: spans.flatMap((mark) => [mark.at, mark.ends_at, null]), y: spans.flatMap(() => [row.get(kind), row.get(kind), null]),
      });
      traces.push({
        type: "scatter", mode: "markers", marker: { color, symbol, size: isNarrow() ? 9 : 11, line: { color: css("--paper"), width: 1 } },
        x: marks.map((mark) => mark.at), y: marks.map(() => row.get(kind)), text: marks.map((mark) => wrap(mark.text)),
        hovertemplate: "%{x|%-d %b %Y %H:%M}<br>%{text}<extra></extra>",
      });
    }
    const height = Math.max(kinds.length, 1) * (isNarrow() ? 34 : 38) + 60;
    Plotly.react("timeline-plot", traces, layout("timeline-plot", height, {
      showlegend: false, hovermode: "closest", margin: { l: isNarrow() ? 84 : 110, r: 16, t: 8, b: 36 },
      yaxis: { tickvals: kinds.map((kind) => row.get(kind)), ticktext: kinds.map((kind) => report.kinds[kind].label), range: [-0.6, kinds.length - 0.4] },
    }), config);
  }

  function drawDrift(policy) {
    const columns = Object.keys(policy.drift).reverse();
    const place = document.getElementById("drift-plot");
    if (!columns.length) {
      Plotly.purge(place);
      place.innerHTML = '<p class="soft">No drift monitor watched this endpoint.</p>';
      return;
    }
    const times = [...new Set(columns.flatMap((name) => policy.drift[name].map((point) => point.at)))].sort();
    const values = columns.map((name) => {
      const known = new Map(policy.drift[name].map((point) => [point.at, point.psi]));
      return times.map((time) => known.has(time) ? known.get(time) : null);
    });
    const limit = report.drift_threshold;
    const ground = dark.matches ? "#22302b" : "#eef3f0";
    const short = (name) => isNarrow() && name.length > 13 ? `${name.slice(0, 12)}…` : name;
    Plotly.react(place, [{
      type: "heatmap", x: times, y: columns.map(short), z: values, zmin: 0, zmax: limit * 3, xgap: 0, ygap: 2,
      colorscale: [[0, ground], [1 / 3, dark.matches ? "#5d5a33" : "#f6dfa4"], [0.5, "#e39a3b"], [1, "#b3261e"]],
      customdata: values.map((line, index) => line.map(() => columns[index])),
      hovertemplate: "%{customdata}: %{z:.2f}<br>%{x|%-d %b %Y}<extra></extra>",
      colorbar: { thickness: 10, outlinewidth: 0, tickvals: [0, limit, limit * 2, limit * 3], ticktext: ["0", `${limit}`, `${limit * 2}`, `${Math.round(limit * 30) / 10}+`], len: 1 },
      showscale: !isNarrow(),
    }], layout("drift-plot", columns.length * 26 + 64, { margin: { l: isNarrow() ? 98 : 140, r: 8, t: 8, b: 36 }, yaxis: { showgrid: false, ticks: "" }, xaxis: { showgrid: false } }), config);
  }

  function listEvents(policy) {
    const list = document.createElement("ol");
    list.className = "events";
    for (const mark of policy.marks) {
      const [line, when, what, text] = ["li", "time", "b", "span"].map((tag) => document.createElement(tag));
      when.dateTime = mark.at;
      when.textContent = mark.day;
      what.textContent = report.kinds[mark.kind].label;
      what.style.color = report.kinds[mark.kind].color;
      text.textContent = mark.text;
      line.append(when, what, text);
      list.append(line);
    }
    const place = document.getElementById("events-list");
    place.replaceChildren(policy.marks.length ? list : "Nothing happened under this policy.");
  }

  function wrap(text) {
    const lines = [""];
    for (const word of text.split(" ")) {
      if (`${lines[lines.length - 1]} ${word}`.length > 48) lines.push("");
      lines[lines.length - 1] += `${lines[lines.length - 1] ? " " : ""}${word.replace(/</g, "&lt;")}`;
    }
    return lines.join("<br>");
  }

  function draw() {
    drawPerformance();
    const policy = report.policies[shown];
    if (!policy) return;
    drawTimeline(policy);
    drawDrift(policy);
    listEvents(policy);
    document.querySelectorAll("#choice button").forEach((button, index) => button.setAttribute("aria-pressed", String(index === shown)));
  }

  const choice = document.getElementById("choice");
  report.policies.forEach((policy, index) => {
    const button = document.createElement("button");
    button.textContent = policy.name;
    button.addEventListener("click", () => { shown = index; draw(); });
    choice.append(button);
  });
  choice.hidden = report.policies.length < 2;
  let width = 0;
  new ResizeObserver(() => {
    const now = document.getElementById("performance-plot").clientWidth;
    if (now !== width) { width = now; draw(); }
  }).observe(document.querySelector("main"));
  dark.addEventListener("change", draw);
})();
