const full = document.getElementById('full')
for (const button of document.querySelectorAll('.zoom')) button.onclick = () => {
  const picture = button.firstElementChild.cloneNode()
  picture.style.width = Math.max(picture.getAttribute('width'), button.firstElementChild.clientWidth) + 'px'
  full.replaceChildren(picture)
  full.showModal()
}
full.onclick = () => full.close()
