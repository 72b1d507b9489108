// Icons of lines, drawn on 24 by 24.

const PATHS = {
  plus: ["M12 5v14", "M5 12h14"],
  send: ["M12 19V5", "M5 12l7-7 7 7"],
  stop: ["M7 7h10v10H7z"],
  copy: ["M9 9h11v11H9z", "M5 15H4V4h11v1"],
  check: ["M5 12.5l4.5 4.5L19 7.5"],
  retry: ["M4 12a8 8 0 1 0 2.6-5.9", "M4 4v4.5h4.5"],
  edit: ["M4 20h4L19 9l-4-4L4 16z", "M13.5 6.5l4 4"],
  trash: ["M4 7h16", "M9 7V4h6v3", "M6 7l1 13h10l1-13"],
  left: ["M14.5 6l-6 6 6 6"],
  right: ["M9.5 6l6 6-6 6"],
  menu: ["M4 7h16", "M4 12h16", "M4 17h16"],
  sliders: ["M4 8h9", "M17 8h3", "M4 16h3", "M11 16h9", "M15 6v4", "M9 14v4"],
  search: ["M11 4a7 7 0 1 0 0 14 7 7 0 0 0 0-14z", "M16.2 16.2L20 20"],
  chat: ["M4 5h16v11H10l-5 4v-4H4z"],
  text: ["M5 6h14", "M5 10h14", "M5 14h9", "M5 18h6"],
  compare: ["M4 5h7v14H4z", "M13 5h7v14h-7z"],
  down: ["M12 5v13", "M6 12l6 6 6-6"],
  export: ["M12 15V4", "M7.5 8.5L12 4l4.5 4.5", "M5 15v5h14v-5"],
  import: ["M12 4v11", "M7.5 10.5L12 15l4.5-4.5", "M5 15v5h14v-5"],
  sun: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "M12 2v3", "M12 19v3", "M2 12h3", "M19 12h3", "M5 5l2 2", "M17 17l2 2", "M5 19l2-2", "M17 7l2-2"],
  moon: ["M19.5 14.5A8 8 0 0 1 9.5 4.5a8 8 0 1 0 10 10z"],
  info: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M12 11v5.5", "M12 7.5v.5"],
  close: ["M6 6l12 12", "M18 6L6 18"],
  tool: ["M14.5 5.5a4.5 4.5 0 0 0-5.6 5.8L4 16.2V20h3.8l4.9-4.9a4.5 4.5 0 0 0 5.8-5.6l-3 3-3-3z"],
  warn: ["M12 4l9 16H3z", "M12 10v4.5", "M12 17v.5"],
  undo: ["M8 5L4 9l4 4", "M4 9h10a6 6 0 0 1 0 12h-3"],
};

/** The icon of this name; it says nothing to screen readers. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  for (const [attribute, value] of [["viewBox", "0 0 24 24"], ["class", "icon"], ["aria-hidden", "true"]]) {
    svg.setAttribute(attribute, value);
  }
  for (const line of PATHS[name]) {
    const path = document.createElementNS(space, "path");
    path.setAttribute("d", line);
    svg.append(path);
  }
  return svg;
}
