// From a panel of a dashboard's JSON to the data frames that Grafana's components draw: queries put to Prometheus with
// Grafana's own steps, its own transformations, and its own display of values.
import {
  FieldType,
  cacheFieldDisplayNames,
  dateTime,
  getDisplayProcessor,
  rangeUtil,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from '@grafana/data';
import { lastValueFrom } from 'rxjs';

standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map((transformation) => ({
    id: transformation.id,
    name: transformation.name,
    transformation: async () => transformation,
  }))
);

const { url, now, variables } = window.PREVIEW;

function start(from) {
  const day = new Date(now);
  day.setUTCHours(0, 0, 0, 0);
  if (from === 'now/M') {
    day.setUTCDate(1);
  }
  return from?.startsWith('now/') ? day.getTime() : now - rangeUtil.intervalToMs((from ?? 'now-24h').slice(4));
}

export function rangeOf(panel, board) {
  const [from, to] = [dateTime(start(panel.timeFrom ?? board.time.from)), dateTime(now)];
  return { from, to, raw: { from, to } };
}

export function fill(text, values) {
  return text.replace(/\$\{?([A-Za-z_]+)\}?/g, (whole, name) => values[name] ?? variables[name] ?? whole);
}

async function ask(path, parameters) {
  const answer = await fetch(`${url}/api/v1/${path}`, { method: 'POST', body: new URLSearchParams(parameters) });
  const { data, error } = await answer.json();
  if (error) {
    throw new Error(error);
  }
  return data.resultType === 'scalar' ? [{ metric: {}, value: data.result }] : data.result;
}

async function query(panel, target, range, width) {
  const seconds = (range.to - range.from) / 1000;
  const bucket = seconds <= 21600 ? '5m' : seconds <= 259200 ? '1h' : '1d';
  const points = panel.maxDataPoints ?? width;
  const least = target.interval ? fill(target.interval, { bucket }) : '15s';
  const chosen = rangeUtil.calculateInterval(range, points, panel.interval).intervalMs;
  const step = Math.max(chosen, rangeUtil.intervalToMs(least)) / 1000;
  const values = { bucket, __range: `${seconds}s`, __range_s: `${seconds}`, __interval: `${step}s` };
  const expr = fill(target.expr, values);
  if (target.instant) {
    return { rows: await ask('query', { query: expr, time: now / 1000 }), step };
  }
  const [from, to] = [range.from, range.to].map((at) => Math.floor(at / 1000 / step) * step);
  return { rows: await ask('query_range', { query: expr, start: from, end: to, step }), step };
}

function legend(target, labels) {
  const shown = Object.entries(labels).filter(([name]) => name !== '__name__');
  if (target.legendFormat !== '__auto') {
    return target.legendFormat.replace(/{{\s*(\w+)\s*}}/g, (_, name) => labels[name] ?? '');
  }
  return shown.length === 1 ? shown[0][1] : shown.map(([name, value]) => `${name}="${value}"`).join(', ') || 'Value';
}

function series({ rows, step }, target) {
  return rows.map(({ metric, value, values = [value] }) => ({
    name: legend(target, metric),
    refId: target.refId,
    length: values.length,
    fields: [
      { name: 'Time', type: FieldType.time, config: { interval: step * 1000 }, values: values.map(([at]) => at * 1000) },
      {
        name: 'Value',
        type: FieldType.number,
        config: { displayNameFromDS: legend(target, metric) },
        labels: metric,
        values: values.map(([, number]) => (number === 'NaN' ? null : Number(number))),
      },
    ],
  }));
}

function table({ rows }, target, single) {
  const labels = [...new Set(rows.flatMap((row) => Object.keys(row.metric)))].filter((name) => name !== '__name__');
  const column = (name, type, values) => ({ name, type, config: {}, values });
  return {
    refId: target.refId,
    length: rows.length,
    fields: [
      column('Time', FieldType.time, rows.map(() => now)),
      ...labels.map((name) => column(name, FieldType.string, rows.map((row) => row.metric[name] ?? ''))),
      column(single ? 'Value' : `Value #${target.refId}`, FieldType.number, rows.map((row) => Number(row.value[1]))),
    ],
  };
}

function set(config, path, value) {
  const [first, ...rest] = path.split('.');
  return { ...config, [first]: rest.length ? set(config[first] ?? {}, rest.join('.'), value) : value };
}

function configured(frames, { defaults, overrides }, theme) {
  frames.forEach((frame) => {
    frame.fields.forEach((field, index) => {
      const name = field.config.displayName ?? field.config.displayNameFromDS ?? field.name;
      const own = overrides.filter((each) => each.matcher.options === name).flatMap((each) => each.properties);
      const base = field.type === FieldType.number ? defaults : { custom: defaults.custom };
      field.config = own.reduce((config, { id, value }) => set(config, id, value), { ...base, ...field.config });
      field.config.links = undefined; // where a click leads does not show
      field.state = { seriesIndex: index - 1 };
    });
  });
  let at = 0;
  for (const field of frames.flatMap((frame) => frame.fields).filter((each) => each.type === FieldType.number)) {
    field.state.seriesIndex = at++;
  }
  frames.flatMap((frame) => frame.fields).forEach((field) => {
    field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
  });
  cacheFieldDisplayNames(frames);
  return frames;
}

export async function load(panel, board, width, theme) {
  const range = rangeOf(panel, board);
  const answers = await Promise.all(panel.targets.map((target) => query(panel, target, range, width)));
  let frames;
  if (panel.type === 'table') {
    const tables = answers.map((answer, n) => table(answer, panel.targets[n], panel.targets.length === 1));
    frames = await lastValueFrom(transformDataFrame(panel.transformations, tables.filter((each) => each.length)));
  } else {
    frames = answers.flatMap((answer, n) => series(answer, panel.targets[n]));
  }
  return { frames: configured(frames, panel.fieldConfig, theme), range };
}
