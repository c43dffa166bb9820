"""Learn a generator: folders of images in, a checkpoint out.

Needs the extra ``train``. Nothing outside this room, but `cyclecast.export`, reads its modules; other rooms get its files.
"""
