<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.22.0" styleCategories="Symbology">
  <renderer-v2 type="singleSymbol" symbollevels="0" enableorderby="0" forceraster="0">
    <symbols>
      <symbol type="marker" name="0" alpha="1" clip_to_extent="1" force_rhr="0">
        <layer class="VectorField" enabled="1" pass="0" locked="0">
          <Option type="Map">
            <Option type="QString" name="x_attribute" value="dx_m"/>
            <Option type="QString" name="y_attribute" value="dy_m"/>
            <Option type="QString" name="vector_field_type" value="0"/>
            <Option type="QString" name="angle_orientation" value="0"/>
            <Option type="QString" name="angle_units" value="0"/>
            <Option type="QString" name="scale" value="1"/>
            <Option type="QString" name="size" value="1"/>
            <Option type="QString" name="size_unit" value="MapUnit"/>
            <Option type="QString" name="distance_unit" value="MapUnit"/>
          </Option>
          <symbol type="line" name="@0@0" alpha="1" clip_to_extent="1" force_rhr="0">
            <layer class="ArrowLine" enabled="1" pass="0" locked="0">
              <Option type="Map">
                <Option type="QString" name="arrow_width" value="0.35"/>
                <Option type="QString" name="arrow_start_width" value="0.35"/>
                <Option type="QString" name="head_length" value="1.2"/>
                <Option type="QString" name="head_thickness" value="0.8"/>
                <Option type="QString" name="is_curved" value="0"/>
              </Option>
              <symbol type="fill" name="@@0@0@0" alpha="1" clip_to_extent="1" force_rhr="0">
                <layer class="SimpleFill" enabled="1" pass="0" locked="0">
                  <Option type="Map">
                    <Option type="QString" name="color" value="178,24,43,255"/>
                    <Option type="QString" name="outline_style" value="no"/>
                  </Option>
                </layer>
              </symbol>
            </layer>
          </symbol>
        </layer>
      </symbol>
    </symbols>
  </renderer-v2>
  <pipe>
    <rasterrenderer type="singlebandpseudocolor" band="1" opacity="0.7" alphaBand="-1" classificationMin="-4" classificationMax="4" nodataColor="">
      <rasterTransparency/>
      <rastershader>
        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" minimumValue="-4" maximumValue="4" labelPrecision="1">
          <item value="-4" color="#2166ac" label="4 m west" alpha="255"/>
          <item value="-2" color="#67a9cf" label="2 m west" alpha="255"/>
          <item value="-0.5" color="#d1e5f0" label="0.5 m west" alpha="255"/>
          <item value="0" color="#f7f7f7" label="0" alpha="255"/>
          <item value="0.5" color="#fddbc7" label="0.5 m east" alpha="255"/>
          <item value="2" color="#ef8a62" label="2 m east" alpha="255"/>
          <item value="4" color="#b2182b" label="4 m east" alpha="255"/>
        </colorrampshader>
      </rastershader>
    </rasterrenderer>
  </pipe>
</qgis>
