// A dashboard's panels at their places, drawn by Grafana's components. What these lack (a state timeline, the list of
// alerts, the bar of pickers) is drawn plainly here.
import React from 'react';
import { createRoot } from 'react-dom/client';
import { ThemeContext, createTheme, getDisplayValueAlignmentFactors, getFieldDisplayName, sortDataFrame } from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import 'uplot/dist/uPlot.min.css';
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import { fill, load } from './frames.js';

const { board, width, variables, alerts } = window.PREVIEW;
const theme = createTheme({ colors: { mode: 'dark' } });
const [ROW, GAP, HEAD, COLUMN] = [38, 8, 96, width / 24];

function numbers(frames) {
  return frames.flatMap((frame) => frame.fields.filter((field) => field.type === 'number'));
}

function Stat({ panel, frames, width, height }) {
  const fields = numbers(frames);
  const one = (field) => ({ ...field.display(field.values.at(-1)), title: field.config.displayNameFromDS });
  const mode = panel.options.textMode === 'value_and_name' ? 'value_and_name' : 'value';
  const draw = ({ value, width, height }) => (
    <BigValue
      value={value}
      theme={theme}
      width={width}
      height={height}
      colorMode="value"
      graphMode="none"
      textMode={mode}
      text={panel.options.text}
      justifyMode="auto"
    />
  );
  return (
    <VizRepeater
      source={fields}
      getValues={() => fields.map(one)}
      width={width}
      height={height}
      orientation={panel.options.orientation === 'horizontal' ? 'horizontal' : 'vertical'}
      renderCounter={1}
      renderValue={draw}
    />
  );
}

function Ranking({ panel, frames, width, height }) {
  const fields = numbers(frames);
  const max = panel.fieldConfig.defaults.max ?? Math.max(...fields.map((field) => field.values[0]));
  const values = fields.map((field) => ({
    field: { ...field.config, max },
    ...field.display(field.values[0]),
    title: field.config.displayNameFromDS,
  }));
  const draw = ({ value, width, height, alignmentFactors }) => (
    <BarGauge
      value={value}
      field={value.field}
      display={fields[0].display}
      theme={theme}
      width={width}
      height={height}
      orientation="horizontal"
      displayMode={panel.options.displayMode}
      showUnfilled={false}
      valueDisplayMode={panel.options.valueMode}
      itemSpacing={8}
      lcdCellWidth={12}
      namePlacement={panel.options.namePlacement}
      alignmentFactors={alignmentFactors}
      text={panel.options.text}
    />
  );
  return (
    <VizRepeater
      source={frames}
      getValues={() => values}
      getAlignmentFactors={(all) => getDisplayValueAlignmentFactors(all.map((display) => ({ display })))}
      width={width}
      height={height}
      orientation="horizontal"
      minVizHeight={panel.options.minVizHeight}
      maxVizHeight={panel.options.maxVizHeight}
      itemSpacing={8}
      renderCounter={1}
      renderValue={draw}
    />
  );
}

function Lines({ panel, frames, range, width, height }) {
  return (
    <TimeSeries
      frames={frames}
      structureRev={1}
      timeRange={range}
      timeZone="utc"
      theme={theme}
      width={width}
      height={height}
      legend={{ ...panel.options.legend, isVisible: true }}
      tooltip={panel.options.tooltip}
      options={panel.options}
    >
      {() => null}
    </TimeSeries>
  );
}

function States({ panel, frames, range, height }) {
  const [from, to] = [Number(range.from), Number(range.to)];
  const states = panel.fieldConfig.defaults.mappings[0].options;
  const place = (at) => `${((at - from) / (to - from)) * 100}%`;
  return frames.map(({ fields: [time, value] }) => (
    <div key={value.config.displayNameFromDS} style={{ height: Math.min(height / frames.length, 48), fontSize: 12 }}>
      {value.config.displayNameFromDS}
      <div style={{ position: 'relative', height: '55%' }}>
        {time.values.map((at, n) => (
          <div
            key={at}
            style={{
              position: 'absolute',
              left: place(at),
              width: place(from + time.config.interval + 1e4),
              height: '100%',
              background: theme.visualization.getColorByName(states[value.values[n]].color),
            }}
          />
        ))}
      </div>
    </div>
  ));
}

const KINDS = {
  stat: Stat,
  bargauge: Ranking,
  timeseries: Lines,
  'state-timeline': States,
  table: ({ panel, frames, width, height }) => {
    const [{ displayName, desc }] = panel.options.sortBy;
    const column = frames[0].fields.findIndex((field) => getFieldDisplayName(field, frames[0]) === displayName);
    const sorted = sortDataFrame(frames[0], column, desc);
    return <TableNG data={sorted} width={width} height={height} cellHeight="sm" structureRev={1} />;
  },
};

function Alerts() {
  return alerts.map(({ name, severity, summary }) => (
    <div key={name + summary} style={{ padding: '6px 0', borderBottom: `1px solid ${theme.colors.border.weak}` }}>
      <b style={{ color: severity === 'critical' ? theme.colors.error.text : theme.colors.warning.text }}>{name}</b>
      <div style={{ fontSize: 12, color: theme.colors.text.secondary }}>{summary}</div>
    </div>
  ));
}

class Shown extends React.Component {
  state = {};
  static getDerivedStateFromError(error) {
    return { error };
  }
  render() {
    return this.state.error ? <pre className="failed">{String(this.state.error.stack)}</pre> : this.props.children;
  }
}

function Panel({ panel, width, height }) {
  const [found, setFound] = React.useState();
  React.useEffect(() => {
    if (panel.targets) {
      load(panel, board, width, theme).then(setFound, (error) => setFound({ error }));
    }
  }, []);
  if (panel.type === 'alertlist') {
    return <Alerts />;
  }
  if (!found) {
    return <i className="waiting" />;
  }
  if (found.error) {
    return <pre className="failed">{String(found.error.stack)}</pre>;
  }
  if (!found.frames.some((frame) => frame.length)) {
    return <div style={{ padding: '24px 0', textAlign: 'center' }}>{panel.fieldConfig.defaults.noValue}</div>;
  }
  const Kind = KINDS[panel.type];
  return <Kind panel={panel} {...found} width={width} height={height} />;
}

const cut = { overflow: 'hidden', textOverflow: 'ellipsis', fontSize: 11, textAlign: 'right', paddingLeft: 8 };

function Framed({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const [outer, tall] = [w * COLUMN - GAP, h * ROW - GAP];
  const box = { position: 'absolute', left: x * COLUMN, top: HEAD + y * ROW, width: outer, height: tall };
  const own = { 'now/d': 'Today so far', 'now/M': 'This month so far' }[panel.timeFrom];
  return (
    <div style={{ ...box, background: theme.colors.background.primary, border: `1px solid ${theme.colors.border.weak}`, overflow: 'hidden' }}>
      <div style={{ padding: '7px 8px 3px', fontWeight: 500, whiteSpace: 'nowrap', display: 'flex', height: 32 }}>
        <span style={{ flex: 'none' }}>{fill(panel.title, { by: variables.by_text })}</span>
        {own && <span style={{ flex: 1, ...cut, color: theme.colors.text.link }}>◷ {own}</span>}
      </div>
      <div style={{ padding: '0 8px' }}>
        <Shown>
          <Panel panel={panel} width={outer - 18} height={tall - 44} />
        </Shown>
      </div>
    </div>
  );
}

function Board() {
  const pickers = board.templating.list.filter((each) => each.hide !== 2);
  const secondary = { color: theme.colors.text.secondary };
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ padding: '10px 8px 0', fontSize: 20 }}>{board.title}</div>
      <div style={{ padding: '2px 8px', fontSize: 12, ...secondary }}>
        Preview: Grafana&apos;s own components ({window.PREVIEW.version}) draw the shipped JSON, with a real Prometheus&apos; answers
        about a simulated product. It is not a Grafana server.
      </div>
      <div style={{ padding: '4px 8px', fontSize: 13, whiteSpace: 'nowrap' }}>
        {pickers.map((each) => `${each.label} ▾`).join('    ')}
      </div>
      {board.panels.map((panel) => (
        <Framed key={panel.id} panel={panel} />
      ))}
    </ThemeContext.Provider>
  );
}

document.body.style.cssText = `margin:0;background:${theme.colors.background.canvas};color:${theme.colors.text.primary};font:14px Inter,Helvetica,Arial,sans-serif`;
// Grafana fits text by Inter's widths, so the font has to be there before anything is drawn.
Promise.all([400, 500].map((weight) => document.fonts.load(`${weight} 14px Inter`))).then(() =>
  createRoot(document.getElementById('root')).render(<Board />),
);
