"""The offline world: invented species, their drawn pictures, and two small models that know them."""
