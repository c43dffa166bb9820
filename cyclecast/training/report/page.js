const full = document.getElementById('full')
for (const button of document.querySelectorAll('.zoom')) button.onclick = () => {
  const image = button.firstElementChild.cloneNode()
  image.style.width = Math.max(image.getAttribute('width'), button.firstElementChild.clientWidth) + 'px'
  full.replaceChildren(image)
  full.showModal()
}
full.onclick = () => full.close()
