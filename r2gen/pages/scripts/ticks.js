// The scales and the ticks of axes.
const LEAST_SPAN = 0.005; // of an axis, as a share of its largest value: smaller differences are not magnified

// The ends of an axis for some values, never so close that differences no reader could see in a table fill the axis.
function axisEnds(values) {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const least = Math.max(Math.abs(low), Math.abs(high)) * LEAST_SPAN || 1;
  const missing = Math.max(0, least - (high - low));
  return [low - missing / 2, high + missing / 2];
}

// About `wanted` round values from low to high.
function ticks(low, high, wanted) {
  const raw = (high - low) / wanted;
  const power = Math.pow(10, Math.floor(Math.log10(raw)));
  const ratio = raw / power;
  const step = power * (ratio > 7 ? 10 : ratio > 3 ? 5 : ratio > 1.4 ? 2 : 1);
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1)
    found.push(index * step);
  return found;
}

function logTicks(low, high) {
  const digits = high / low > 300 ? [1] : [1, 2, 5];
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    found.push(...digits.map((digit) => digit * Math.pow(10, power)));
  }
  return found.filter((tick) => tick >= low && tick <= high);
}

function tickText(value) {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e6) return `${Number((value / 1e6).toPrecision(4))} M`;
  if (size >= 1e4) return `${Number((value / 1e3).toPrecision(4))} k`;
  if (size < 1e-3) return value.toExponential(1).replace(".0e", "e");
  return String(Number(value.toPrecision(4)));
}
