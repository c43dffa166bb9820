for (const figure of document.querySelectorAll('.chart[data-bounds]')) {
  const [x0, x1, y0, y1] = figure.dataset.bounds.split(' ').map(Number), log = figure.dataset.log === '1'
  const plot = figure.querySelector('.plot'), cursor = plot.querySelector('.cursor'), at = figure.querySelector('.at')
  const drawn = plot.querySelectorAll('g'), end = at.textContent
  const lines = [...figure.querySelectorAll('.legend button')].map((button, index) => {
    const steps = button.dataset.steps.split(' ').map(Number), values = button.dataset.values.split(' ')
    const dot = plot.appendChild(document.createElement('b')), value = button.querySelector('.value')
    dot.className = button.classList[0]
    dot.hidden = true
    const line = {steps, values, dot, value, last: value.textContent, hidden: false}
    button.onclick = () => {
      line.hidden = !line.hidden
      button.setAttribute('aria-pressed', !line.hidden)
      for (const group of [drawn[index], drawn[index + drawn.length / 2]]) group.style.display = line.hidden ? 'none' : ''
    }
    return line
  })
  plot.onpointermove = plot.onpointerdown = event => {
    const box = plot.getBoundingClientRect(), part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width))
    const step = x0 + part * (x1 - x0), whole = lines.every(line => line.steps.every(Number.isInteger))
    at.textContent = figure.dataset.x + ' ' + (whole ? Math.round(step) : Number(step.toPrecision(4)))
    cursor.hidden = false
    cursor.style.left = 100 * part + '%'
    for (const {steps, values, dot, value, hidden} of lines) {
      let near = 0
      steps.forEach((other, index) => { if (Math.abs(other - step) < Math.abs(steps[near] - step)) near = index })
      const y = log ? Math.log10(values[near]) : Number(values[near])
      value.textContent = values[near]
      dot.hidden = hidden
      dot.style.left = 100 * (steps[near] - x0) / (x1 - x0) + '%'
      dot.style.top = 100 - 100 * (y - y0) / (y1 - y0) + '%'
    }
  }
  plot.onpointerleave = () => {
    cursor.hidden = true
    at.textContent = end
    for (const {dot, value, last} of lines) { dot.hidden = true; value.textContent = last }
  }
}
