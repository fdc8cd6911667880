// Numbers, times and durations as people read them: a value and its unit.

const whole = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 1 });
const two = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 2 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const full = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });

/** A count. */
export const count = (value) => whole.format(value ?? 0);

function scaled(value) {
  const size = Math.abs(value);
  return size < 9.995 ? two.format(value) : size < 99.95 ? one.format(value) : whole.format(value);
}

/** A rate: value and unit. */
export function rate(perSecond) {
  if (perSecond >= 1e6) return [scaled(perSecond / 1e6), "M/s"];
  if (perSecond >= 1e4) return [scaled(perSecond / 1e3), "k/s"];
  return [scaled(perSecond), "/s"];
}

/** A duration of nanoseconds: value and unit. */
export function ns(value) {
  if (!value) return ["0", "µs"];
  if (value < 1e6) return [scaled(value / 1e3), "µs"];
  if (value < 1e9) return [scaled(value / 1e6), "ms"];
  return [scaled(value / 1e9), "s"];
}

/** An age or wait in milliseconds: value and unit. */
export function ms(value) {
  if (value < 1e3) return [whole.format(value), "ms"];
  if (value < 60e3) return [scaled(value / 1e3), "s"];
  if (value < 3600e3) return [scaled(value / 60e3), "min"];
  if (value < 172800e3) return [scaled(value / 3600e3), "h"];
  return [scaled(value / 86400e3), "d"];
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  for (; value >= 1024 && at < units.length - 1; at++) value /= 1024;
  return [scaled(value), units[at]];
}

export const percent = (value) => [scaled(value), "%"];
export const join = ([value, unit]) => (unit.startsWith("/") || unit === "%" ? `${value}${unit === "%" ? " %" : unit}` : `${value} ${unit}`);

/** A moment in local time; the title has it in UTC. */
export function moment(text, short = false) {
  const at = new Date(text);
  const node = document.createElement("time");
  if (Number.isNaN(at.getTime())) {
    node.textContent = text ?? "–";
    return node;
  }
  node.dateTime = text;
  node.title = `${at.toISOString().replace("T", " ").replace("Z", "")} UTC`;
  node.textContent = (short ? clock : full).format(at);
  return node;
}

/** Minor units of a currency. */
export function money(minor, currency) {
  try {
    const format = new Intl.NumberFormat("en-GB", { style: "currency", currency });
    return format.format(minor / 10 ** format.resolvedOptions().maximumFractionDigits);
  } catch {
    return `${count(minor)} minor units of ${currency}`;
  }
}

/** `refused_stock` as words. */
export const words = (name) => String(name).replaceAll("_", " ");
