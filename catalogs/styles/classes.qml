<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" styleCategories="Symbology">
  <pipe>
    <rasterrenderer type="paletted" band="1" opacity="0.7" alphaBand="-1" nodataColor="">
      <rasterTransparency/>
      <colorPalette>
        <paletteEntry value="0" color="#d64541" label="building" alpha="255"/>
        <paletteEntry value="1" color="#787882" label="road" alpha="255"/>
        <paletteEntry value="2" color="#dee7d0" label="background" alpha="255"/>
      </colorPalette>
    </rasterrenderer>
  </pipe>
</qgis>
