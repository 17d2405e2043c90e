"""Tables, figures and the HTML page that a run ends with."""
