// How numbers, times and intervals are written.
function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function score(value) {
  return isNumber(value) ? value.toFixed(3) : "–";
}

function grouped(value) {
  return isNumber(value) ? value.toLocaleString("en-US") : "–";
}

function plural(count, one, many) {
  return `${grouped(count)} ${count === 1 ? one : many}`;
}

// A count with a unit: 6.74 B.
function amount(value) {
  const units = { B: 1e9, M: 1e6, k: 1e3 };
  const unit = Object.keys(units).find((name) => value >= units[name]);
  return unit ? `${Number((value / units[unit]).toPrecision(3))} ${unit}` : String(value);
}

function share(part, whole) {
  if (!whole) return "–";
  const percent = (100 * part) / whole;
  const digits = percent < 1 ? 1 : 3;
  return `${percent === 0 || percent === 100 ? percent : Number(percent.toPrecision(digits))}\u00a0%`;
}

// A measured value with about three digits.
function reading(value) {
  if (!isNumber(value)) return "NaN or infinity";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 1e-3 || size >= 1e6)
    return value
      .toExponential(2)
      .replace(/\.?0+e/, "e")
      .replace("e+", "e");
  if (size < 1) return value.toPrecision(3);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

function duration(seconds) {
  if (!isNumber(seconds)) return "–";
  if (seconds < 1) return `${seconds.toFixed(2)} s`;
  const total = Math.round(seconds);
  const hours = Math.floor(total / 3600);
  const minutes = Math.floor(total / 60) % 60;
  if (hours) return `${hours} h ${minutes} min`;
  return minutes ? `${minutes} min ${total % 60} s` : `${total} s`;
}

// An ISO time with minutes and time zone.
function moment(text) {
  const parts = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d)[\d:.]*(Z|[+-]\d\d:?\d\d)?$/.exec(text || "");
  if (!parts) return text || "–";
  const [, day, time, zone] = parts;
  if (!zone) return `${day} ${time}`;
  return `${day} ${time} ${zone === "Z" || /^[+-]00:?00$/.test(zone) ? "UTC" : zone}`;
}

function probability(p) {
  return p < 0.001 ? "< .001" : p.toFixed(3).replace(/^0/, "");
}

// To three decimals, as scores are shown, so that zero has no minus.
function rounded(value) {
  return Math.round(value * 1000) / 1000;
}

function signed(value) {
  return (rounded(value) < 0 ? "−" : "") + Math.abs(value).toFixed(3).replace(/^0/, "");
}

function range({ low, high }) {
  return isNumber(low) ? `${signed(low)} to ${signed(high)}` : "–";
}

function compareNaturally(one, other) {
  return String(one).localeCompare(String(other), "en", { numeric: true });
}
